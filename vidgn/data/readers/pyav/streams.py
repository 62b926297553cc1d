"""What a file says of its video before anything is decoded, and what it may be to be opened at all."""

from typing import NamedTuple

from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vidgn.data.readers.sample_index import SampleIndex
from vidgn.data.readers.types import VideoDecodeError

# Containers that hold all of their data themselves; those of sound alone get the better message. Playlists and
# scripts (HLS, ffconcat), which make FFmpeg open other files, are not among them.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,wav,mp3,flac"
_ISO_MEDIA = frozenset(["mov", "mp4", "m4a", "3gp", "3g2", "mj2"])  # FFmpeg's name of the demuxer (libavformat/mov.c)
_PROGRESSIVE = (0, 1)  # AVFieldOrder: unknown, progressive


class StreamFacts(NamedTuple):
    """What a file says of its video, before anything is decoded. Sizes are as stored (px), not upright.

    `tick` is the unit of its times (s), `duration` how long it is shown (s); None where the file does not say.
    """

    formats: frozenset[str]
    codec: str
    num_video_streams: int
    height: int
    width: int
    fps: float
    is_progressive: bool
    tick: float | None
    duration: float | None


def limits(max_pixels: int) -> dict[str, str]:
    """Return FFmpeg's options by which a file opens no other one, and no larger picture than this is decoded."""
    return {"format_whitelist": _FORMATS, "protocol_whitelist": "", "max_pixels": str(max_pixels)}


def has_size(container: InputContainer) -> bool:
    """Tell whether FFmpeg knows how large the pictures are; it does not where they exceed `max_pixels`."""
    return all(stream.codec_context.width > 0 for stream in container.streams.video if stream.codec_context)


def choose_stream(container: InputContainer, path: str) -> tuple[VideoStream, StreamFacts]:
    """Take the first video stream that is not a cover picture; other programs may take the largest.

    Raises:
        VideoDecodeError: There is none, or FFmpeg cannot decode it.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = {"a cover picture" if s.type == "video" else s.type for s in container.streams}
        raise VideoDecodeError(path, f"no video stream, only {' and '.join(sorted(kinds)) or 'headers'}")
    stream = streams[0]
    context: VideoCodecContext | None = stream.codec_context
    if context is None:
        raise VideoDecodeError(path, "FFmpeg has no decoder for its video stream")
    tick = None if stream.time_base is None else float(stream.time_base)
    facts = StreamFacts(
        formats=frozenset(container.format.name.split(",")),
        codec=context.codec.name,
        num_video_streams=len(container.streams.video),
        height=context.height,
        width=context.width,
        fps=float(stream.average_rate or stream.base_rate or 0),
        is_progressive=context.field_order in _PROGRESSIVE,
        tick=tick,
        duration=None if tick is None or stream.duration is None else stream.duration * tick,
    )
    return stream, facts


def indexed_facts(index: SampleIndex) -> StreamFacts:
    """Return what a prepared file says of its video."""
    return StreamFacts(
        formats=_ISO_MEDIA,
        codec="h264",
        num_video_streams=1,
        height=index.height,
        width=index.width,
        fps=index.fps,
        is_progressive=True,
        tick=index.tick,
        duration=index.duration,
    )


def h264_context(extradata: bytes) -> VideoCodecContext:
    """Return a decoder of H.264 that is not open yet, as a demuxer sets it up."""
    context = CodecContext.create("h264", "r")
    assert isinstance(context, VideoCodecContext)
    context.extradata = extradata
    return context
