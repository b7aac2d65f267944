#!/usr/bin/env python3
"""The pictures of docs/machines.md: what the encoder is fed of each simulated machine, healthy and with each fault."""
import argparse
import pathlib
import subprocess
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter

from report import save
from simulate import FAULTS

HZ = [50, 200, 500, 1000, 2000, 4000, 7000]


def mel(hz):
    """Slaney's scale: linear up to 1 kHz, logarithmic above."""
    hz = np.asarray(hz, float)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4))


def row_of(hz):
    """Row of the image, 128 bands from 20 to 8000 Hz."""
    low, high = mel(20), mel(8000)
    return (mel(hz) - low) / (high - low) * 129 - 1


def image(auscult, kind, machine, options):
    with tempfile.TemporaryDirectory() as folder:
        wav, npy = pathlib.Path(folder) / "x.wav", pathlib.Path(folder) / "x.npy"
        for command in (["synth", kind, "--id", machine, *options, "--minutes", "0.1", "-o", wav],
                        ["spectrogram", wav, "--npy", npy]):
            subprocess.run([auscult, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
        return np.load(npy)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--auscult", default="target/release/auscult")
    parser.add_argument("--out", type=pathlib.Path, default="docs/machines")
    parser.add_argument("--strength", type=float, default=0.8)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for kind, machine in (("fan", "fan-a"), ("blower", "blower-a"), ("pump", "pump-a")):
        faults = FAULTS + ["cavitation"] if kind == "pump" else FAULTS
        panels = [("healthy", []), ("healthy, at another time", ["--take", "7"])]
        panels += [(fault, ["--fault", fault, "--strength", str(args.strength)]) for fault in faults]
        rows = -(-len(panels) // 3)
        figure, axes = plt.subplots(rows, 3, figsize=(9, 2.8 * rows), dpi=90, sharex=True, sharey=True)
        for axis in axes.flat[len(panels):]:
            axis.set_axis_off()
        for axis, (title, options) in zip(axes.flat, panels):
            axis.imshow(image(args.auscult, kind, machine, options), origin="lower", cmap="magma", vmin=0, vmax=1,
                        aspect="auto", extent=(0, 128 * 512 / 16000, -0.5, 127.5), interpolation="nearest")
            axis.set_title(title, fontsize=10)
            axis.yaxis.set_major_locator(FixedLocator([float(row_of(hz)) for hz in HZ]))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda _, n: f"{HZ[n]} Hz" if n is not None and n < len(HZ) else ""))
            axis.tick_params(labelsize=7)
        figure.suptitle(f"{machine}, faults at strength {args.strength}; time in seconds", fontsize=11)
        save(figure, args.out / f"{kind}.png")


if __name__ == "__main__":
    main()
