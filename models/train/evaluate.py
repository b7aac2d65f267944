#!/usr/bin/env python3
"""How good a bundle's encoder is on machines that its training never heard: prints the tables of models/README.md.

Each machine is enrolled by its bank alone: embeddings of normal windows, and a threshold from their leave-one-out
distances. Simulated ones have seeds that no training used. With --shared, also on real fans (MIMII), into which the sound
of simulated faults is mixed.
"""
import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
from tqdm import tqdm

from export import WINDOW, nearest, quantile
from recordings import samples, write
from report import auc, show, table
from simulate import FAULTS, make

UNSEEN = ["fan-101", "fan-102", "fan-103", "blower-101", "blower-102", "blower-103", "pump-101", "pump-102", "pump-103"]


def embed(args, paths):
    """[N,32] and the file of each row. Which machine the encoder is told does not matter: it adds a constant."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "embeddings.npy"
        command = [args.auscult, "score", "--bundle", args.bundle, "--machine", args.index, "--threshold", "1", "--json",
                   "--embeddings", out, *paths]
        done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
        files = [line.split('"file":"')[1].split('"')[0] for line in done.stdout.splitlines()]
        return np.load(out), np.array(files)


def enroll(bank, files, share):
    """The threshold that a bank alone gives: each window's distance to the rows of other recordings."""
    apart = [nearest(bank[files != file], bank[files == file]) for file in np.unique(files)]
    return quantile(np.concatenate(apart), share)


def simulated(args, work):
    """Distances of each unseen machine: normal, and by fault and strength; its threshold."""
    for name in tqdm(args.machines, unit=" machines"):
        kind, root = name.split("-")[0], work / name
        make(args.auscult, (root / "normal", [kind, "--id", name], 2 * args.bank))
        embedded, files = embed(args, [root / "normal"])
        recordings = np.unique(files)
        known = np.isin(files, recordings[: args.bank])
        bank, limit = embedded[known], enroll(embedded[known], files[known], args.false_alarm_rate)
        faults = {}
        for fault in FAULTS + ["cavitation"] if kind == "pump" else FAULTS:
            for strength in args.strengths:
                options = [kind, "--id", name, "--fault", fault, "--strength", str(strength), "--take", "500000"]
                folder = root / f"{fault}-{strength}"
                make(args.auscult, (folder, options, args.faulty))
                faults[fault, strength] = nearest(bank, embed(args, [folder])[0])
        yield name, nearest(bank, embedded[~known]), faults, limit


def of_simulated(args, work):
    results = list(simulated(args, work))
    head = ["fault", *[f"{strength}" for strength in args.strengths]]
    rows, caught = [], []
    for fault in FAULTS + ["cavitation"]:
        row, share = [fault], [fault]
        for strength in args.strengths:
            found = [(normal, faults[fault, strength], limit) for _, normal, faults, limit in results
                     if (fault, strength) in faults]
            aucs = [auc(normal, wrong) for normal, wrong, _ in found]
            row.append(f"{np.mean(aucs):.2f} ({min(aucs):.2f})" if aucs else "")
            share.append(show(np.mean([np.mean(wrong > limit) for _, wrong, limit in found]), ".0%") if found else "")
        rows.append(row)
        caught.append(share)
    print(f"AUC by strength, mean of {len(results)} machines (worst machine):\n\n{table(head, rows)}\n")
    print(f"Share of windows above the threshold that the bank alone gives at {args.false_alarm_rate:.0%}:\n")
    print(table(head, [["normal", *[""] * (len(head) - 2), show(np.mean([np.mean(n > t) for _, n, _, t in results]), ".1%")],
                       *caught]) + "\n")
    print("By machine, normal windows above it: "
          + ", ".join(f"{name} {np.mean(normal > limit):.1%}" for name, normal, _, limit in results) + "\n")
    ratios = np.concatenate([normal / limit for _, normal, _, limit in results])
    print("Healthy distances over the threshold, at shares of 0, 5, ... 100 %: "
          + ", ".join(f"{value:.2f}" for value in np.quantile(ratios, np.linspace(0, 1, 21))) + "\n")


def fault_sounds(args, work, fault, strength):
    """The sound that a fault adds to a machine, by itself, over the machine's level: with it, less without it."""
    for seed in range(4):
        pair = []
        for options in ([], ["--fault", fault, "--strength", str(strength)]):
            file = work / f"{fault}-{strength}-{seed}-{len(options)}.wav"
            command = [args.auscult, "synth", "fan", "--seed", str(900 + seed), *options, "--minutes", "0.1", "-o", file]
            subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
            pair.append(samples(file)[:WINDOW, 0])
        yield (pair[1] - pair[0]) / np.sqrt(np.mean(pair[0] ** 2))


def of_real(args, work):
    """A real fan's first 5 s on each microphone are its bank; the next 5 s are tested, as they are and with a fault."""
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    for file in sorted(args.shared.glob("*_normal_*.wav")):
        sound = samples(file)
        channels = range(sound.shape[1])
        for channel in channels:
            write(work / f"bank-{channel}.wav", sound[:WINDOW, channel])
            write(work / f"test-{channel}.wav", sound[WINDOW:2 * WINDOW, channel])
        bank, test = (embed(args, [work / f"{part}-{c}.wav" for c in channels])[0] for part in ("bank", "test"))
        normal = nearest(bank, test)
        for fault in FAULTS:
            row = [f"{file.stem}: {fault}"]
            for strength in args.strengths:
                files = []
                for number, added in enumerate(fault_sounds(args, work, fault, strength)):
                    for channel in channels:
                        own = sound[WINDOW:2 * WINDOW, channel]
                        files.append(work / f"{fault}-{strength}-{number}-on-{channel}.wav")
                        write(files[-1], own + added * own.std())
                row.append(show(auc(normal, nearest(bank, embed(args, files)[0]))))
            rows.append(row)
    print("Real fan, AUC by strength of the fault mixed in:\n")
    print(table(["recording", *[f"{strength}" for strength in args.strengths]], rows) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auscult", default="target/release/auscult")
    parser.add_argument("--bundle", type=pathlib.Path, default="models/demo")
    parser.add_argument("--index", default="fan-a", metavar="MACHINE", help="which machine the encoder is told")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--shared", type=pathlib.Path, help="folder with real recordings")
    parser.add_argument("--machines", nargs="*", default=UNSEEN)
    parser.add_argument("--bank", type=int, default=60, help="recordings of 10 s to enrol with, and as many to test")
    parser.add_argument("--faulty", type=int, default=8, help="recordings of each fault and strength")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.8, 1.0])
    parser.add_argument("--false-alarm-rate", type=float, default=0.01)
    args = parser.parse_args()
    if args.machines:
        of_simulated(args, args.work / "simulated")
    if args.shared:
        of_real(args, args.work / "real")


if __name__ == "__main__":
    main()
