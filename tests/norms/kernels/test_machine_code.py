"""The Triton kernels become machine code of a GPU (here Hopper's), which needs no GPU; running it does."""

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed: nothing can be compiled")

import triton.language as tl  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from vidgn.norms.kernels import triton_backward, triton_forward  # noqa: E402

HALF = ("x", "y", "residual", "dy", "z", "dx", "dresidual")  # the rest of the tensors is float32
INTEGERS = ("S", "C", "N", "chunk_len", "chunks", "groups", "stride_n", "stride_s", "stride_c")
TILE = {"BLOCK_S": 16, "BLOCK_C": 64}


def type_of(name):
    if name in INTEGERS:
        return "i32"
    return "fp32" if name == "eps" else "*bf16" if name in HALF else "*fp32"


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset")  # either value is right for these kernels
@pytest.mark.parametrize(
    ("kernel", "constants"),
    [
        (triton_forward.moments, TILE),
        (triton_forward.merge_moments, {"D": 8, "BLOCK_P": 16, "BLOCK_D": 8}),
        (triton_forward.apply, {"D": 8, "HAS_RESIDUAL": True, "RELU": True} | TILE),
        (triton_forward.resident, {"D": 16, "HAS_RESIDUAL": True, "RELU": True, "BLOCK_S": 64, "BLOCK_D": 16}),
        (triton_backward.gradient_sums, {"D": 8, "MASK": 2, "STORE": True} | TILE),
        (triton_backward.merge_gradients, {"D": 8, "BLOCK_P": 16, "BLOCK_D": 8}),
        (triton_backward.apply_gradient, {"D": 8, "MASK": 1} | TILE),
        (triton_backward.resident_gradient, {"D": 16, "MASK": 2, "STORE": True, "BLOCK_S": 64, "BLOCK_D": 16}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_kernel_becomes_machine_code(kernel, constants):
    constants = constants | {"ACC": tl.float32}
    signature = {name: "constexpr" if name in constants else type_of(name) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    compiled = triton.compile(ASTSource(kernel, signature, constexprs=places), target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"][:4] == b"\x7fELF"
    assert "atom" not in compiled.asm["ptx"]  # no atomics: two runs give the same bits
