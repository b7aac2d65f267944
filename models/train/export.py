"""The bundle's files, exactly as docs/bundle.md has them."""
import hashlib
import json
import pickle
import subprocess
import warnings

import numpy as np
import tensorflow as tf

import network
import recordings

WINDOW = 80_000


def nearest(bank, embeddings):
    """Distance of each embedding to its nearest row."""
    squares = (bank**2).sum(1) - 2 * embeddings @ bank.T + (embeddings**2).sum(1)[:, None]
    return np.sqrt(np.maximum(squares.min(1), 0)) if len(embeddings) else np.zeros(0)


def quantile(normal, share):
    """Conformal: a new normal window exceeds it with a probability of at most `share`."""
    ordered = np.sort(normal)
    return float(ordered[min(int(np.ceil((1 - share) * (len(ordered) + 1))), len(ordered)) - 1])


def threshold(normal, abnormal, share):
    """The threshold of the best F1 among those that call at most `share` of the normal windows anomalous (where faults
    cannot be heard, F1 alone calls everything anomalous); where nothing abnormal is known, that share decides."""
    least = quantile(normal, share)
    if not len(abnormal):
        return least
    candidates = np.unique(np.concatenate([[least], normal[normal > least], abnormal[abnormal > least]]))
    hit = (abnormal[None] > candidates[:, None]).sum(1)
    f1 = 2 * hit / (hit + len(abnormal) + (normal[None] > candidates[:, None]).sum(1))
    best = np.flatnonzero(f1 == f1.max())[0]
    # Anywhere up to the next candidate is as good: half way leaves room on both sides.
    upper = candidates[best + 1] if best + 1 < len(candidates) else candidates[best]
    return float((candidates[best] + upper) / 2)


def spread_out(count, most):
    """At most `most` of `count` rows, evenly."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(int)


class Bundle:
    """What is written, and what the report is made of."""

    def __init__(self, args, machines, embeddings, bands):
        self.args, self.machines, self.bands = args, machines, bands
        self.banks, self.distances, self.thresholds = [], [], []
        for machine, embedded in zip(machines, embeddings):
            own = embedded[machine.pick("train", False)]
            bank = own[spread_out(len(own), args.bank)]
            distances = nearest(bank, embedded)
            normal, abnormal = (distances[machine.pick("validation", wrong)] for wrong in (False, True))
            self.banks.append(bank)
            self.distances.append(distances)
            self.thresholds.append(threshold(normal, abnormal, args.false_alarm_rate))

    def write(self, trained):
        out = self.args.out
        out.mkdir(parents=True, exist_ok=True)
        names = [machine.name for machine in self.machines]
        ids = np.repeat(np.arange(len(names), dtype=np.int64), [len(bank) for bank in self.banks])
        np.save(out / "emb_train.npy", np.concatenate(self.banks).astype(np.float32))
        np.save(out / "ids_train.npy", ids)
        (out / "id_to_int.pkl").write_bytes(pickle.dumps({name: n for n, name in enumerate(names)}, 4))
        # Numpy scalars, as the original training writes them.
        thresholds = {np.float64(n): np.float64(value) for n, value in enumerate(self.thresholds)}
        (out / "thresholds_by_machine.pkl").write_bytes(pickle.dumps(thresholds, 4))
        model = convert(trained)
        (out / "encoder.tflite").write_bytes(model)
        cases = self.golden(model)
        for what in ("window", "embedding"):
            file = out / f"golden_{what}s.npy"
            file.unlink(missing_ok=True)
            if cases:
                np.save(file, np.asarray([case[what] for case in cases], np.float32))
        self.manifest(cases)

    def golden(self, model):
        """Test windows through LiteRT: a normal one, and where there is any the most abnormal one of a machine."""
        warnings.filterwarnings("ignore", "\\s*Warning: tf.lite.Interpreter is deprecated")
        net = tf.lite.Interpreter(model_content=model, num_threads=1)
        net.allocate_tensors()
        inputs = net.get_input_details()
        image, who = (next(i["index"] for i in inputs if len(i["shape"]) == rank) for rank in (4, 2))
        cases = []
        for abnormal in (False, True):
            found = ((n, m.pick("test", abnormal)) for n, m in enumerate(self.machines))
            for number, rows in [(n, rows) for n, rows in found if len(rows)][:1]:
                machine, row = self.machines[number], rows[self.distances[number][rows].argmax() if abnormal else 0]
                net.set_tensor(image, machine.images[row][None, :, :, None])
                net.set_tensor(who, np.array([[number]], np.float32))
                net.invoke()
                embedding = net.get_tensor(net.get_output_details()[0]["index"])[0].copy()
                cases.append({
                    "name": f"{machine.name}, {machine.kind[row]}",
                    "machine": machine.name,
                    "window": samples(machine.file[row], machine.window[row]),
                    "embedding": embedding,
                    "distance": float(nearest(self.banks[number], embedding[None])[0]),
                })
        return [case for case in cases if case["window"] is not None]

    def manifest(self, cases):
        args, out = self.args, self.args.out
        lines = ["format = 1", f"name = {json.dumps(args.name or out.name)}", f"version = {json.dumps(args.bundle_version)}"]
        if args.description:
            lines.append(f"description = {json.dumps(args.description)}")
        for name, band in self.bands.items():
            lines += ["", f"[machine.{name}]", f"front_end = {{ fmin_hz = {band['fmin_hz']}, fmax_hz = {band['fmax_hz']} }}"]
        lines += ["", "[files]"]
        for file in filter(lambda file: (out / file).exists(), FILES):
            lines.append(f'"{file}" = "{hashlib.sha256((out / file).read_bytes()).hexdigest()}"')
        for case in cases:
            lines += ["", "[[golden]]"]
            lines += [f"{key} = {json.dumps(case[key])}" for key in ("name", "machine")]
            # Distances are about 1: so much is nothing to them, and more than processors differ in rounding.
            lines += [f"distance = {case['distance']:.6f}", "distance_tolerance = 0.005"]
        (out / "bundle.toml").write_text("\n".join(lines) + "\n")


def convert(trained):
    """The encoder for LiteRT, for one window at a time: with the batch's size left open it would compute shapes, too."""
    one = trained.untrained(batch=1)
    for empty, half in zip(one, (trained.trunk, trained.head)):
        empty.set_weights(half.get_weights())
    return tf.lite.TFLiteConverter.from_keras_model(network.encoder(*one, batch=1)).convert()


FILES = ("emb_train.npy", "encoder.tflite", "golden_embeddings.npy", "golden_windows.npy", "id_to_int.pkl",
         "ids_train.npy", "thresholds_by_machine.pkl")


def samples(file, window):
    """A window's samples, the mean of all channels; `None` where the recording would have to be resampled first."""
    sound = recordings.samples(file)
    return None if sound is None else sound[window * WINDOW:(window + 1) * WINDOW].mean(axis=1)


def verify(args):
    """The program's own word on what was written."""
    if subprocess.run([args.auscult, "bundle", "verify", str(args.out)]).returncode:
        raise SystemExit("the bundle is not valid")
