"""Recordings in MACHINE/{normal,abnormal}/*.wav -> images and parts. `auscult spectrogram` computes the images, so that
training and agent cannot differ."""
import hashlib
import json
import pathlib
import struct
import subprocess
import wave
from dataclasses import dataclass

import numpy as np

PARTS = ("train", "validation", "test")


@dataclass
class Machine:
    """Windows of one machine, all arrays of one length."""

    name: str
    images: np.ndarray  # [N,128,128] f32, 0..1
    abnormal: np.ndarray  # [N] bool
    kind: np.ndarray  # [N] str: "normal", or the folders below abnormal/, or "abnormal"
    part: np.ndarray  # [N] str: train, validation, test
    file: np.ndarray  # [N] str
    window: np.ndarray  # [N] int, number of the window in its file
    mode: np.ndarray  # [N] str: the folder of its file
    teaches: bool  # its faults train, too

    def teaching(self, part):
        """The windows of a part that train the network, or measure it in training."""
        return np.flatnonzero((self.part == part) & (~self.abnormal | self.teaches))

    def pick(self, part, abnormal):
        return np.flatnonzero((self.part == part) & (self.abnormal == abnormal))


def samples(file):
    """[frames, channels] f32 of a WAV file of 16 bits and 16 kHz, else `None`. Python's own reader does not know the
    extensible headers that multichannel recordings have."""
    data, place, form = pathlib.Path(file).read_bytes(), 12, None
    while place + 8 <= len(data):
        name, length = data[place:place + 4], int.from_bytes(data[place + 4:place + 8], "little")
        chunk = data[place + 8:place + 8 + length]
        if name == b"fmt ":
            form, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
            form = int.from_bytes(chunk[24:26], "little") if form == 0xFFFE else form
        if name == b"data" and form is not None:
            if (form, rate, bits) != (1, 16_000, 16):
                return None
            return np.frombuffer(chunk, "<i2").reshape(-1, channels).astype(np.float32) / 32768
        place += 8 + length + length % 2
    return None


def write(file, sound):
    """A WAV file of one channel, 16 bits and 16 kHz."""
    with wave.open(str(file), "wb") as wav:
        wav.setparams((1, 2, 16_000, 0, "NONE", ""))
        wav.writeframes((sound.clip(-1, 1) * 32767).round().astype("<i2").tobytes())


def parts_of(files, shares, seed):
    """Each recording's part, drawn from its name: whole recordings, never windows."""
    order = sorted(files, key=lambda file: hashlib.sha256(f"{seed} {file}".encode()).digest())
    edges = np.round(np.cumsum(shares) * len(order)).astype(int)
    return {file: PARTS[int(np.searchsorted(edges, number, side="right"))] for number, file in enumerate(order)}


def read(auscult, machine_dir, cache, options, seed, teaches=False):
    """All windows of a machine. `options` go to `auscult spectrogram` (its band, its channel). The faults of one that
    `teaches` train the network; those of others never do."""
    name, cache = machine_dir.name, pathlib.Path(cache)
    files = sorted(machine_dir.glob("normal/**/*.wav")) + sorted(machine_dir.glob("abnormal/**/*.wav"))
    if not any(file.relative_to(machine_dir).parts[0] == "normal" for file in files):
        raise SystemExit(f"{machine_dir}/normal: expected WAV files, found none")
    key = json.dumps([options, [[str(f.relative_to(machine_dir)), f.stat().st_size, f.stat().st_mtime_ns] for f in files]])
    key = hashlib.sha256(key.encode()).hexdigest()
    array, rows_file = cache / f"{name}.npy", cache / f"{name}.json"
    known = json.loads(rows_file.read_text()) if rows_file.exists() else {}
    if known.get("key") != key or not array.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [auscult, "spectrogram", "--all", "--json", "--npy", array, *options, *files]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"auscult spectrogram of {name} failed")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        rows = [row | {"file": str(pathlib.Path(row["file"]).relative_to(machine_dir))} for row in rows]
        known = {"key": key, "rows": [row for row in rows if row["row"] is not None]}
        rows_file.write_text(json.dumps(known))
    rows = known["rows"]
    place = [pathlib.PurePath(row["file"]) for row in rows]
    kind = np.array(["normal" if p.parts[0] == "normal" else "/".join(p.parts[1:-1]) or "abnormal" for p in place])
    part = {}
    for one in np.unique(kind):
        of_faults = (0.8, 0.2, 0.0) if teaches else (0.0, 0.5, 0.5)
        shares = (0.6, 0.2, 0.2) if one == "normal" else of_faults
        part |= parts_of(sorted({str(p) for p, k in zip(place, kind) if k == one}), shares, seed)
    return Machine(
        name=name,
        images=np.load(array),
        abnormal=kind != "normal",
        kind=kind,
        part=np.array([part[str(p)] for p in place]),
        file=np.array([str(machine_dir / p) for p in place]),
        window=np.array([row["window"] for row in rows]),
        mode=np.array([str(p.parent) for p in place]),
        teaches=teaches,
    )
