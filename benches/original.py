#!/usr/bin/env python3
"""The original's way for benches/window.rs: a round of timings for each line on stdin, milliseconds as JSON on stdout.

The functions timed are those of reference.py; one thread. Usage: original.py REFERENCE.py BUNDLE WAV MACHINE RUNS
With "ready" in place of RUNS it scores one window, prints "ready" and ends: what it takes to start. With "score" it scores the
files that follow.
"""
import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import importlib.util
import json
import statistics
import sys
import time

import numpy as np

path, folder, wav, machine, runs, *files = sys.argv[1:]
spec = importlib.util.spec_from_file_location("reference", path)
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)

bundle = reference.Bundle(folder)
index = bundle.ids[machine]
own = bundle.bank[bundle.rows == index]
window = reference.windows(wav)[0]


def spectrogram():
    return reference.spectrogram(window)


def distance(embedding):
    return np.linalg.norm(own - embedding, axis=1).min()


def whole():
    return distance(bundle.embed(spectrogram(), index))


if runs == "ready":
    whole()
    print("ready", flush=True)
    sys.exit()

if runs == "score":
    for file in files:
        for window in reference.windows(file):
            whole()
    sys.exit()

import librosa

at_card_hz = librosa.resample(window, orig_sr=reference.RATE, target_sr=48000)
image = spectrogram()
embedding = bundle.embed(image, index)
stages = {
    "resampling 48 to 16 kHz": lambda: librosa.resample(at_card_hz, orig_sr=48000, target_sr=reference.RATE),
    "spectrogram": spectrogram,
    "encoder": lambda: bundle.embed(image, index),
    "distance": lambda: distance(embedding),
    "whole window": whole,
}


def milliseconds(run):
    begun = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - begun)


whole()
for _ in sys.stdin:
    medians = {name: statistics.median(milliseconds(run) for _ in range(int(runs))) for name, run in stages.items()}
    print(json.dumps(medians), flush=True)
