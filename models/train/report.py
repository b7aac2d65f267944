"""The bundle's report: README.md and pictures beside it, in OUT/report/."""
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

BLUE, RED, GREY = "#2a6f97", "#c8553d", "#8d99ae"


def auc(normal, abnormal):
    """Probability that an abnormal window is further away than a normal one; ties count half."""
    if not len(normal) or not len(abnormal):
        return None
    order = np.concatenate([normal, abnormal]).argsort(kind="stable")
    values = np.concatenate([normal, abnormal])[order]
    ranks = np.empty(len(order))
    # Equal distances share their mean rank.
    _, first, count = np.unique(values, return_index=True, return_counts=True)
    ranks[order] = np.repeat(first + (count + 1) / 2, count)
    above = ranks[len(normal):].sum() - len(abnormal) * (len(abnormal) + 1) / 2
    return above / (len(normal) * len(abnormal))


def show(value, form=".2f"):
    return "" if value is None else format(value, form)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(args, machines, bundle, history):
    folder = args.out / "report"
    folder.mkdir(exist_ok=True)
    curve(history, folder / "training.png")
    histograms(machines, bundle, folder / "distances.png")
    spectrograms(machines, folder / "spectrograms.png")
    (folder / "README.md").write_text(text(args, machines, bundle, history))


def text(args, machines, bundle, history):
    rows = []
    for machine, distances, limit in zip(machines, bundle.distances, bundle.thresholds):
        normal, abnormal = (distances[machine.pick("test", wrong)] for wrong in (False, True))
        recordings = len(set(machine.file[~machine.abnormal])), len(set(machine.file[machine.abnormal]))
        rows.append([machine.name, *map(str, recordings), show(limit, ".3f"), show(auc(normal, abnormal)),
                     show(np.mean(normal > limit) if len(normal) else None, ".1%"),
                     show(np.mean(abnormal > limit) if len(abnormal) else None, ".1%")])
    parts = [
        f"# {args.name or args.out.name}, version {args.bundle_version}",
        f"Made by `models/train/train.py`: {len(history)} epoch{'s' * (len(history) != 1)}, batches of {args.batch}, seed {args.seed}. "
        "All figures here are of the test part: recordings that neither trained the network nor set a threshold.",
        table(["machine", "normal recordings", "abnormal", "threshold", "AUC", "normal above it", "abnormal above it"], rows),
        f"A threshold is the one of the best F1 on the validation part among those that call at most "
        f"{args.false_alarm_rate:.1%} of its normal windows anomalous; where nothing abnormal is known, that share alone "
        "decides. Distances are in units of a machine's normal variation: two normal windows are about 1 apart.",
    ]
    kinds = sorted({kind for machine in machines for kind in machine.kind if kind not in ("normal", "abnormal")})
    if kinds:
        parts += ["## AUC by what is wrong", table(["", *[machine.name for machine in machines]], [
            [kind, *[show(auc_of(machine, distances, kind)) for machine, distances in zip(machines, bundle.distances)]]
            for kind in kinds])]
    parts += [
        "## Distances\n![Histograms of the distances, normal and abnormal, with each machine's threshold](distances.png)",
        "## What the encoder is fed\n![A normal and an abnormal window of each machine](spectrograms.png)",
        "## Training\n![Loss by epoch](training.png)",
    ]
    return "\n\n".join(parts) + "\n"


def auc_of(machine, distances, kind):
    wanted = machine.pick("test", True)
    return auc(distances[machine.pick("test", False)], distances[wanted[machine.kind[wanted] == kind]])


def curve(history, file):
    figure, axes = plt.subplots(figsize=(7, 3))
    epochs = range(1, len(history) + 1)
    for part, colour in (("train", BLUE), ("validation", RED)):
        if history and history[0][part] is not None:
            axes.plot(epochs, [epoch[part] for epoch in history], color=colour, label=part, marker="o", markersize=3)
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.legend(frameon=False)
    save(figure, file)


def grid(machines, height):
    columns = min(3, len(machines))
    rows = -(-len(machines) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, height * rows), squeeze=False)
    for empty in axes.flat[len(machines):]:
        empty.set_axis_off()
    return figure, axes.flat


def histograms(machines, bundle, file):
    figure, axes = grid(machines, 2.2)
    for machine, distances, limit, axis in zip(machines, bundle.distances, bundle.thresholds, axes):
        normal, abnormal = (distances[machine.pick("test", wrong)] for wrong in (False, True))
        far = max(np.quantile(np.concatenate([normal, abnormal]), 0.95), 1.5 * limit)
        bins = np.linspace(0, far, 40)
        for values, colour, label in ((normal, BLUE, "normal"), (abnormal, RED, "abnormal")):
            if len(values):
                axis.hist(values.clip(max=far), bins, color=colour, alpha=0.65, label=label, density=True)
        axis.axvline(limit, color="black", linewidth=1, linestyle="--", label="threshold")
        axis.set_title(machine.name, fontsize=9)
        axis.set_yticks([])
    axes[0].legend(frameon=False, fontsize=7)
    save(figure, file)


def spectrograms(machines, file):
    figure, axes = plt.subplots(2, len(machines), figsize=(1.5 * len(machines) + 0.5, 4.2), squeeze=False)
    for number, (machine, pair) in enumerate(zip(machines, axes.T)):
        for abnormal, axis in zip((False, True), pair):
            axis.set(xticks=[], yticks=[])
            rows = machine.pick("test", abnormal)
            if len(rows):
                # From machine to machine another kind of fault, where there are several.
                row = rows[len(rows) * (number + 1) // (len(machines) + 1)]
                axis.imshow(machine.images[row], origin="lower", cmap="magma", vmin=0, vmax=1)
                axis.set_title(f"{machine.name}\n{machine.kind[row]}", fontsize=7)
            else:
                axis.set_axis_off()
    save(figure, file)


def save(figure, file):
    """As a PNG of few colours: a third of the size, and nobody sees it."""
    figure.tight_layout()
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
    picture.quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)
    plt.close(figure)
