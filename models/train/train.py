#!/usr/bin/env python3
"""Trains a bundle from recordings: DATA/MACHINE/{normal,abnormal}/*.wav -> OUT/, a bundle with its report.

Goes on where it was interrupted, as long as --work stays. Recordings are split by file: 60 % of the normal ones train the
network and are the bank, 20 % (and half of the abnormal ones) set the thresholds, the rest is only reported.
"""
import argparse
import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import export
import network
import recordings
import report


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with a folder for each machine")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the bundle's directory")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="for spectrograms and checkpoints")
    parser.add_argument("--auscult", default="target/release/auscult", help="the program, for its front-end")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate at the start; falls to 0")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--separate", type=float, default=0.0, metavar="WEIGHT",
                        help="also learn to tell machines and their modes apart, with this weight: the folders below normal/, and "
                        "the faults of machines that are not shipped; 0.5 is a start [default: 0, normal sound alone]")
    parser.add_argument("--name", help="the bundle's name [default: that of OUT]")
    parser.add_argument("--bundle-version", default="1")
    parser.add_argument("--description", default="")
    parser.add_argument("--false-alarm-rate", type=float, default=0.01, metavar="P",
                        help="share of normal windows that a threshold may call anomalous")
    parser.add_argument("--ship", nargs="+", metavar="MACHINE",
                        help="machines that the bundle is for; the others only teach the encoder [default: all]")
    parser.add_argument("--bank", type=int, default=200, metavar="N", help="rows of each machine in the bank, at most")
    parser.add_argument("--band", nargs=3, action="append", default=[], metavar=("MACHINE", "FMIN", "FMAX"),
                        help="another band for one machine, Hz (a contact microphone: 20 2000)")
    return parser.parse_args()


def read_machines(args):
    bands = {name: {"fmin_hz": float(low), "fmax_hz": float(high)} for name, low, high in args.band}
    dirs = sorted(path for path in args.data.iterdir() if (path / "normal").is_dir())
    unknown = set(bands) - {path.name for path in dirs}
    ship = args.ship or [path.name for path in dirs]
    unknown |= set(ship) - {path.name for path in dirs}
    if not dirs or unknown:
        raise SystemExit(f"{args.data}: expected MACHINE/normal/*.wav{f' of {sorted(unknown)}' if unknown else ''}")
    # Those that are shipped come first, so that their indices have no holes.
    dirs.sort(key=lambda path: (path.name not in ship, path.name))
    machines = []
    for path in tqdm(dirs, desc="spectrograms", unit=" machines"):
        band = bands.get(path.name, {})
        options = ["--fmin", band["fmin_hz"], "--fmax", band["fmax_hz"]] if band else []
        options = [str(option) for option in options]
        cache, teaches = args.work / "spectrograms", args.separate > 0 and path.name not in ship
        machines.append(recordings.read(args.auscult, path, cache, options, args.seed, teaches))
    return machines, bands, len(ship)


class Windows:
    """The windows of one part of all machines, as the network wants them."""

    def __init__(self, machines, part, modes=None):
        rows = [machine.teaching(part) for machine in machines]
        named = [(machine.name, mode) for machine, own in zip(machines, rows) for mode in machine.mode[own]]
        self.modes = {name: number for number, name in enumerate(sorted(set(named)))} if modes is None else modes
        # A mode that nothing is trained on cannot be told.
        known = np.array([name in self.modes for name in named], bool)
        self.images = np.concatenate([machine.images[own] for machine, own in zip(machines, rows)])[known]
        self.machines = np.repeat(np.arange(len(machines)), [len(own) for own in rows])[known]
        self.mode = np.array([self.modes[name] for name in named if name in self.modes])
        self.texture = network.texture(self.images)

    def batch(self, rows, scale, random):
        mean, deviation = scale
        images, machines = self.images[rows][..., None], self.machines[rows, None].astype(np.float32)
        strangers = random.integers(self.machines.max() + 1, size=machines.shape).astype(np.float32)
        return [images, machines, strangers], [images, (self.texture[rows] - mean) / deviation, self.mode[rows]]


def train(args, windows, held_out, machines):
    """The trained autoencoder and the losses of each epoch. A checkpoint is kept after each epoch."""
    scale = windows.texture.mean(axis=0), network.within(windows.texture, windows.machines).std(axis=0) + 1e-6
    checkpoint, log = args.work / "checkpoint.keras", args.work / "history.json"
    setting = [len(windows.images), len(machines), len(windows.modes), args.separate, args.epochs, args.batch, args.rate,
               args.seed]
    done = json.loads(log.read_text()) if log.exists() and checkpoint.exists() else {}
    steps = -(-len(windows.images) // args.batch)
    keras.utils.set_random_seed(args.seed)
    tf.config.experimental.enable_op_determinism()
    if done.get("setting") == setting:
        model = keras.models.load_model(checkpoint, custom_objects={"Autoencoder": network.Autoencoder})
        history = done["history"]
    else:
        variance = network.within(windows.images, windows.machines).var()
        model, history = network.Autoencoder(len(machines), len(windows.modes), args.separate, variance), []
        rate = keras.optimizers.schedules.CosineDecay(args.rate, steps * args.epochs)
        model.compile(optimizer=keras.optimizers.Adam(rate, clipnorm=1.0))
    with tqdm(total=steps * args.epochs, initial=steps * len(history), desc="training", unit=" steps") as bar:
        for epoch in range(len(history), args.epochs):
            # By the epoch's own number, so that a resumed run sees what an unbroken one would have seen.
            random = np.random.default_rng([args.seed, epoch])
            order = random.permutation(len(windows.images))
            losses = []
            for rows in np.array_split(order, steps):
                losses.append(float(model.train_on_batch(*windows.batch(rows, scale, random))))
                bar.update()
                bar.set_postfix(epoch=f"{epoch + 1}/{args.epochs}", loss=f"{np.mean(losses):.4f}")
            batches = np.array_split(np.arange(len(held_out.images)), max(1, len(held_out.images) // 64))
            apart = [float(model.test_on_batch(*held_out.batch(rows, scale, random))) for rows in batches if len(rows)]
            history.append({"train": float(np.mean(losses)), "validation": float(np.mean(apart)) if apart else None})
            fresh = checkpoint.with_name("fresh.keras")
            model.save(fresh)
            fresh.replace(checkpoint)
            log.write_text(json.dumps({"setting": setting, "history": history}))
    return model, history


def embed(encoder, images, machine):
    """[N,32], all as machine number `machine`."""
    who = np.full((len(images), 1), machine, np.float32)
    return encoder.predict([images[..., None], who], batch_size=32, verbose=0)


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    machines, bands, shipped = read_machines(args)
    windows = Windows(machines, "train")
    held_out = Windows(machines, "validation", windows.modes)
    known = f"{len(machines)} machines in {len(windows.modes)} modes"
    print(f"{known}, {len(windows.images)} windows to train on", file=sys.stderr)
    model, history = train(args, windows, held_out, machines)
    encoder = model.encoder
    normal = [m.images[m.pick("train", False)] for m in machines]
    own = [embed(encoder, images, index) for index, images in enumerate(normal)]
    network.whiten(model.head, np.concatenate(own), np.repeat(np.arange(len(own)), [len(one) for one in own]))
    machines = machines[:shipped]
    embeddings = [embed(encoder, machine.images, index) for index, machine in enumerate(machines)]
    bundle = export.Bundle(args, machines, embeddings, bands)
    bundle.write(model)
    report.write(args, machines, bundle, history)
    export.verify(args)


if __name__ == "__main__":
    main()
