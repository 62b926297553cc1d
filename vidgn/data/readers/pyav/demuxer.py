"""The packets of one file's video stream by number, through PyAV's demuxers."""

import errno
from array import array
from collections.abc import Container, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vidgn.data.readers.bitstream.order_count import COUNTED_CODECS, OrderCounter
from vidgn.data.readers.diagnose import contents, damage, is_iso_media
from vidgn.data.readers.pyav.cropping import Cropping, cropping_of_matroska, cropping_of_mp4
from vidgn.data.readers.pyav.edit_list import num_shown_by_edits, read_moov
from vidgn.data.readers.pyav.frame_index import MOST_REORDERED, reorder_depth
from vidgn.data.readers.pyav.mp4_table import Samples, find_samples, indexed_samples
from vidgn.data.readers.pyav.packet_table import PacketFacts, PacketTable
from vidgn.data.readers.pyav.remote_packets import VERBATIM, Places
from vidgn.data.readers.pyav.streams import StreamFacts, choose_stream, h264_context, has_size, indexed_facts, limits
from vidgn.data.readers.sample_index import SampleIndex, read_index
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.remote import is_remote, open_file

_KEPT_BYTES = 1 << 24  # a file of ordinary size is read once; of a larger one only the facts are kept
_AT_ONCE = 32  # packets; a call for each costs time, and many could be large
_PACKET_BYTES = 600  # what PyAV 18 takes for a packet beside its bytes, in files of 1,800 to 100,240 packets
# Of mp4 and mov the tables say what FFmpeg otherwise learns from the first packets, whose pictures it decodes for it:
# it may open no decoder. The whitelist is of codecs' names; ours is opened by another way.
_TABLES = {"skip_frame": "all", "probesize": "32", "codec_whitelist": "none"}
_LARGE_HEAD = 1 << 16
_LONG_AGO = 1 << 50  # ticks; before the first time of any file


class PacketSource:
    """One open file and its packets, numbered from 0 in the file's order; empty packets are not counted.

    Raises:
        OSError: The file cannot be opened or read.
        VideoDecodeError: It is empty, truncated, no video, or too large.
    """

    def __init__(self, path: str, *, max_pixels: int) -> None:
        self.path = path
        self.notes: list[str] = []  # what is left out and no error
        self.opens = 0  # how often FFmpeg opened the file; more than once only where its start cannot be sought
        self.max_pixels = max_pixels
        self.facts: StreamFacts
        self._trusts_tables = False
        self._has_decoded_size = False
        self._moov = b""  # tables of an mp4 or mov file
        self._pass = 0
        self._kept: list[Packet[VideoStream]] | None = None
        self._samples: Samples | None = None  # of packets whose facts are in the file's tables
        self.counts: array[int] | None = None  # of the order of showing, of packets that are not kept
        self.restarts: list[int] = []  # those of them that forget every picture before them
        self.counter: OrderCounter  # which counts them
        self._places: Places | None = None  # of packets whose bytes are fetched when they are wanted
        self._file: BinaryIO = open_file(path)
        self._remote: Any = self._file if is_remote(path) else None
        self._container: InputContainer | None = None
        self._context: VideoCodecContext | None = None
        self.packets = PacketTable()
        self.cropping: Cropping | None = None
        try:
            self.has_index = self._read_index()
            if self.has_index:
                return
            self._open()
            self.cropping = self._read_cropping()
            self._take_stock()
            self._check_complete()
            self._moov = b""
            times = np.asarray(self.packets.times)
            self.reorder_depth = reorder_depth(times) if self.packets.has_all_times() else 0
            if self._places is not None:
                self.packets.mark_keys(self._places.keys(self.stream, codec=self.facts.codec))
        except BaseException:
            self.close()
            raise

    @property
    def stream(self) -> VideoStream:
        """The stream that is read, from FFmpeg's demuxer, which a file with an index does not need to be read."""
        if self._container is None:
            self._open()
        return self._stream

    @property
    def codec_context(self) -> VideoCodecContext:
        """The decoder, which may not be open yet."""
        return self._context or self.stream.codec_context

    def begin(self, start: int) -> int:
        """Begin a pass at packet `start` and return its ticket; it ends every pass before it.

        `stream` may be another object afterwards.
        """
        self._pass += 1
        if self._kept is None and self._samples is None and start < self._position:
            with self.blame("its start"):
                self._rewind()
        return self._pass

    def walk(
        self, start: int, last: int, *, needed: Container[int] | None = None
    ) -> Iterator[tuple[int, "Packet[VideoStream]"]]:
        """Yield packets `start`..`last` with their numbers, passing over those before `start`.

        Of those that are not `needed`, ones to which no other refers may be left out: a file from tables tells them
        sooner than a decoder does.

        Whoever lets others act meanwhile must `require` the pass before it asks for the next one.

        Raises:
            VideoDecodeError: The packets are not those of the first pass: the file has changed since.
        """
        if self._samples is not None:
            with self.blame(f"packets {start} to {last}"):
                yield from self._samples.read(start, last, needed=needed, path=self.path)
            return
        if self._places is not None:
            self._places.fetch(start, last, sizes=self.packets.sizes)
        kept = self._kept
        if kept is not None:
            for number in range(start, last + 1):
                yield number, self._filled(kept[number], number)
            return
        while self._position <= last:
            number = self._position
            with self.blame(f"packet {number}"):
                packet = next(self._demuxer, None)
            if packet is None or not self._is_known(packet, number):
                raise VideoDecodeError(self.path, f"packet {number} is not what it was: the file has changed")
            self._position += 1
            if number >= start:
                yield number, self._filled(packet, number)

    def require(self, ticket: int) -> None:
        """Check that the pass has not ended.

        Raises:
            RuntimeError: It does not.
        """
        if ticket != self._pass:
            raise RuntimeError(f"another pass through {self.path} or close() ended this one; finish one pass first.")

    @property
    def is_fetched(self) -> bool:
        """Whether the bytes of packets stay elsewhere until they are wanted."""
        return self._places is not None

    @property
    def lookahead(self) -> int:
        """Packets behind a run that are looked at for the order; of a file elsewhere two, for each is fetched."""
        return MOST_REORDERED if self._places is None else 2

    def heads(self, start: int, last: int, *, size: int | None) -> Iterator[bytes]:
        """Yield the first `size` bytes of packets `start`..`last`; None for all."""
        if self._samples is not None:
            return self._samples.heads(start, last, size=size)
        if self._places is not None:
            self._places.fetch(start, last, sizes=self.packets.sizes)
            return self._places.heads(start, last, sizes=self.packets.sizes, size=size)
        assert self._kept is not None
        return (bytes(memoryview(packet)[:size]) for packet in self._kept[start : last + 1])

    def order_counter(self) -> OrderCounter:
        """Return a counter of the stream's packets, from a key packet on."""
        return OrderCounter(self.facts.codec, self.codec_context.extradata or b"")

    @contextmanager
    def blame(self, what: str) -> Iterator[None]:
        """Name the file, and `what` of it, in every error of FFmpeg or of the file system."""
        try:
            yield
        except av.FFmpegError as err:  # before OSError: FFmpeg's "Operation not permitted" is bad data
            raise VideoDecodeError(self.path, f"{what}: {err.strerror or type(err).__name__}") from err
        except OSError as err:
            if err.errno == errno.EINVAL:  # a seek to before the start of the file
                raise VideoDecodeError(self.path, f"{what}: it points outside of the file") from err
            err.filename = err.filename or self.path
            raise

    def learn_size(self) -> tuple[int, int]:
        """Return height and width of the first picture of a plain decode, where the headers state another size.

        Tables may be wrong; and FFmpeg shows columns that the stream crops on the left where the rest would not begin
        at an aligned address.
        """
        if not self._has_decoded_size:
            self._has_decoded_size = True
            options = limits(self.max_pixels)
            with (
                self.blame("its headers"),
                open_file(self.path) as file,
                av.open(file, "r", options=options, metadata_errors="ignore") as again,
            ):
                stream, _ = choose_stream(again, self.path)
                first = next(again.decode(stream), None)
            if first is not None:
                self.facts = self.facts._replace(height=first.height, width=first.width)
        return self.facts.height, self.facts.width

    def close(self) -> None:
        """Close the container and the file."""
        self._pass += 1
        self._kept = self._samples = self._context = None
        if self._container is not None:
            self._container.close()
        self._file.close()

    def _read_index(self) -> bool:
        """Take the facts of all packets from the table that a prepared file brings; return whether it does."""
        if self._remote is not None:  # a request for its end costs more than it saves
            return False
        with self.blame("its index"):
            index = read_index(self._file)
        if index is None:
            return False
        self.facts = indexed_facts(index)
        self._check_size()
        self._samples = indexed_samples(self._file, index)
        self.packets = self._samples.table
        self._context, self.reorder_depth = h264_context(index.extradata), index.reorder_depth
        return True

    def sample_index(self) -> SampleIndex | None:
        """Return what the file would bring as its index; None where something in it is out of the ordinary."""
        facts, samples, extradata = self.facts, self._samples, self.codec_context.extradata
        is_plain = self.cropping is None and not self.notes and facts.is_progressive and facts.num_video_streams == 1
        if samples is None or not extradata or facts.tick is None or not is_plain:
            return None
        return SampleIndex(
            height=facts.height, width=facts.width, fps=facts.fps, tick=facts.tick, duration=facts.duration,
            reorder_depth=self.reorder_depth, extradata=extradata, sizes=self.packets.sizes, starts=samples.starts,
            times=self.packets.times, keys=self.packets.keys,
        )  # fmt: skip

    def _read_cropping(self) -> Cropping | None:
        """Learn which part of the pictures the container shows; None for all."""
        size = {"height": self.facts.height, "width": self.facts.width}
        with self.blame("its headers"):
            if self._trusts_tables:
                self._moov = read_moov(self._file)
                return cropping_of_mp4(self._moov, track=self.stream.id, **size)
            if "matroska" in self.facts.formats:
                at = self._file.tell()
                try:
                    return cropping_of_matroska(self._file, index=self.stream.index, **size)
                finally:
                    self._file.seek(at)
        return None

    def _take_stock(self) -> None:
        """Learn the facts of all packets, from tables or by reading; keep those that were read of an ordinary file."""
        if self._trusts_tables and self._remote is None:
            with self.blame("its headers"):
                self._samples = find_samples(self._file, self.stream, moov=self._moov)
        if self._samples is not None:
            self.packets = self._samples.table
            return
        kept: list[Packet[VideoStream]] = []
        room = _KEPT_BYTES
        packets = self._demux_all()
        while some := list(islice(packets, _AT_ONCE)):
            self.packets.extend(some)
            room -= sum(self.packets.sizes[-len(some) :]) + _PACKET_BYTES * len(some)
            if self._places is not None:
                self._places.extend(some)
            if room >= 0:
                kept += some
                continue
            self._count([*kept, *some])
            kept.clear()
        if room >= 0:
            self._kept = kept

    def _count(self, packets: "list[Packet[VideoStream]]") -> None:
        """Count the next packets of a file that is too large to keep them."""
        if self.facts.codec not in COUNTED_CODECS or self._places is not None:
            return
        if self.counts is None:
            self.counts, self.counter = array("q"), self.order_counter()
        for packet in packets:
            head = bytes(memoryview(packet)[:_LARGE_HEAD])
            if packet.is_keyframe and self.counter.restarts_at(head):
                self.restarts.append(len(self.counts))
            self.counts.append(self.counter.count(head))

    def _filled(self, packet: "Packet[VideoStream]", number: int) -> "Packet[VideoStream]":
        if self._places is not None:
            self._places.fill(packet, number, size=self.packets.sizes[number])
        return packet

    def _is_known(self, packet: "Packet[VideoStream]", number: int) -> bool:
        """Tell whether a packet is what it was in the first pass; keys are not compared where no bytes were seen."""
        facts = _facts(packet)
        return facts == (
            self.packets[number] if self._places is None else self.packets[number]._replace(is_key=facts.is_key)
        )

    def _open(self) -> None:
        self.opens += 1
        options = limits(self.max_pixels)
        with self.blame("its headers"):
            why = damage(self._file)
            if why:
                raise VideoDecodeError(self.path, why)
            self._file.seek(0)
            self._trusts_tables = is_iso_media(self._file.read(8))
            leaves_media = self._trusts_tables and self._remote is not None and self._remote.leave_media()
            container = self._demuxed(options | _TABLES if self._trusts_tables else options)
            if self._trusts_tables and not has_size(container):
                container.close()
                container = self._demuxed(options | {"skip_frame": "all"})
        self._container = container
        self._stream, self.facts = choose_stream(container, self.path)
        if leaves_media:
            self._leave_packets(options | _TABLES)
        self._check_size()
        self._start_demuxer()

    def _check_size(self) -> None:
        if self.facts.height * self.facts.width > self.max_pixels:
            size = f"{self.facts.width}x{self.facts.height}"
            raise VideoDecodeError(self.path, f"pictures of {size} px exceed max_pixels ({self.max_pixels})")

    def _leave_packets(self, options: dict[str, str]) -> None:
        """Leave the bytes of packets where they lie until they are wanted; read those of other codecs."""
        if self.facts.codec in VERBATIM:
            self._places = self._places or Places(self._remote)
            return
        assert self._container is not None
        self._remote.take_media()
        self._container.close()
        with self.blame("its headers"):
            self._container = self._demuxed(options)
        self._stream, self.facts = choose_stream(self._container, self.path)

    def _demuxed(self, options: dict[str, str]) -> InputContainer:
        self._file.seek(0)
        try:
            return av.open(self._file, "r", options=options, metadata_errors="ignore")
        except av.FFmpegError as err:
            raise VideoDecodeError(self.path, contents(self._file)) from err

    def _start_demuxer(self) -> None:
        assert self._container is not None
        self._position = 0
        packets = self._container.demux(self.stream)
        self._demuxer: Iterator[Packet[VideoStream]] = (packet for packet in packets if packet.size)

    def _demux_all(self) -> Iterator["Packet[VideoStream]"]:
        with self.blame("its packets"):
            yield from self._demuxer
        self._position = 1 << 62  # behind the last packet

    def _check_complete(self) -> None:
        if not self.packets:
            raise VideoDecodeError(self.path, "the video stream holds no frames")
        promised = self.stream.frames if "mov" in self.facts.formats else 0  # elsewhere an estimate
        count = len(self.packets)
        if count >= promised:
            return
        sizes = [entry.size for entry in self.stream.index_entries]  # of the samples that FFmpeg reads from the tables
        if count < sum(size > 0 for size in sizes):
            raise VideoDecodeError(self.path, f"truncated: {count} of {promised} promised frames are there")
        if len(sizes) == promised:
            self.notes.append(f"{promised - count} of its {promised} samples are empty and left out")
            return
        shown = num_shown_by_edits(self._moov, track=self.stream.id)
        # A frame of tolerance at each end: the edits count in ticks of the movie, the frames in those of the track.
        if shown is None or len(self.packets.shown()) + 2 < shown - sizes.count(0):
            raise VideoDecodeError(self.path, f"truncated: {count} of {promised} promised frames are there")

    def _rewind(self) -> None:
        """Go back to the first packet, by a seek if one lands there, otherwise by opening the file again."""
        assert self._container is not None
        for time in (-_LONG_AGO, self.packets[0].time or 0):
            try:
                self._container.seek(time, stream=self.stream)
                self._start_demuxer()
                first = next(self._demuxer, None)
            except av.FFmpegError:
                continue  # this container cannot seek so; the next way can
            if first is not None and self._is_known(first, 0):
                self._demuxer = chain([first], self._demuxer)
                return
        self._container.close()
        self._open()


def _facts(packet: "Packet[VideoStream]") -> PacketFacts:
    return PacketFacts(packet.pts, packet.size, packet.is_keyframe, not packet.is_discard)
