"""The network: a convolutional autoencoder that is told which machine it hears. Only its encoder is shipped.

encoder   image [1,128,128,1] and machine index [1,1] -> embedding [1,32]; 396 000 weights, 231 M multiply-adds
decoder   embedding -> the image again, and the texture of each of its bands
modes     embedding -> which machine it is, in which mode; only where that is asked for
"""
import keras
import numpy as np
from keras import layers, ops

EMBEDDING = 32
ID_EMBEDDING = 8


def halves(machines, by_band=False, batch=None):
    """The encoder in two halves that share their layers with it: image -> features, features and machine -> embedding.
    Four convolutions, mean over time and frequency (over time alone `by_band`), the machine's learned vector beside it, one
    linear layer."""
    image = layers.Input((128, 128, 1), batch, name="spectrogram")
    x = image
    for number, filters in enumerate((32, 64, 128, 256)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        if number < 3:
            x = layers.MaxPooling2D()(x)
    if by_band:
        x = layers.Flatten()(layers.AveragePooling2D((1, x.shape[2]))(x))
    else:
        x = layers.GlobalAveragePooling2D()(x)
    features, machine = layers.Input(x.shape[1:], batch), layers.Input((1,), batch, name="machine_id")
    who = layers.Flatten()(layers.Embedding(machines, ID_EMBEDDING, name="id_embedding")(machine))
    embedding = layers.Dense(EMBEDDING, name="embedding")(layers.Concatenate()([features, who]))
    return keras.Model(image, x, name="features"), keras.Model([features, machine], embedding, name="head")


def encoder(trunk, head, batch=None):
    """Both halves as one model."""
    image = layers.Input((128, 128, 1), batch, name="spectrogram")
    machine = layers.Input((1,), batch, name="machine_id")
    return keras.Model([image, machine], head([trunk(image), machine]), name="encoder")


def decoder():
    """From the embedding back to the image; and to the texture, see `texture`."""
    embedding = layers.Input((EMBEDDING,))
    x = layers.Dense(8 * 8 * 64, activation="relu")(embedding)
    x = layers.Reshape((8, 8, 64))(x)
    for filters in (64, 32, 16, 8):
        x = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(x)
    image = layers.Conv2D(1, 3, padding="same", name="image")(x)
    bands = layers.Dense(128, activation="relu")(embedding)
    return keras.Model(embedding, [image, layers.Dense(3 * 128, name="texture")(bands)], name="decoder")


def texture(images):
    """What a mean over time keeps of a sound that flickers, [N, 384]: each band's mean, its spread, and its mean step
    from frame to frame. An embedding that is a mean over time cannot tell when something happened, so the image alone
    would teach it nothing about knocking or spitting; this does."""
    mean, spread = images.mean(axis=2), images.std(axis=2)
    step = np.abs(np.diff(images, axis=2)).mean(axis=2)
    return np.concatenate([mean, spread, step], axis=1).astype(np.float32)


class Autoencoder(keras.Model):
    """All parts in training. What comes back of the sound is compared in units of a machine's normal variation, so that
    image and texture weigh alike. With a `separation` above 0 the modes are told as well, which weighs so much: from features
    of each band, and an embedding made for a stranger's index, for by its own each machine would be known without having
    been heard."""

    def __init__(self, machines, modes, separation=0.0, image_variance=1.0, **more):
        super().__init__(**more)
        self.machines, self.modes = machines, modes
        self.separation, self.image_variance = float(separation), float(image_variance)
        (self.trunk, self.head), self.decoder = self.untrained(), decoder()
        self.teller = layers.Dense(modes, name="modes") if self.separation > 0 else None

    def get_config(self):
        return {"machines": self.machines, "modes": self.modes, "separation": self.separation,
                "image_variance": self.image_variance}

    def untrained(self, batch=None):
        return halves(self.machines, self.separation > 0, batch)

    @property
    def encoder(self):
        return encoder(self.trunk, self.head)

    def call(self, inputs):
        image, machine, stranger = inputs
        features = self.trunk(image)
        sound = self.decoder(self.head([features, machine]))
        return [*sound, self.teller(self.head([features, stranger]))] if self.teller else sound

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        wanted_image, wanted_bands, mode = y
        image, bands, *told = y_pred
        of_image = ops.mean(ops.square(image - wanted_image)) / self.image_variance
        loss = of_image + ops.mean(ops.square(bands - wanted_bands))
        for of_mode in told:
            told_wrong = keras.losses.sparse_categorical_crossentropy(mode, of_mode, from_logits=True)
            loss += self.separation * ops.mean(told_wrong)
        return loss


def within(values, machines):
    """Variation within each machine: `values` less the mean of the machine that each row belongs to."""
    values = values.copy()
    for machine in np.unique(machines):
        values[machines == machine] -= values[machines == machine].mean(axis=0)
    return values


def whiten(head, embeddings, machines):
    """Turns and scales the last layer so that normal running varies alike in all directions of the embedding.

    The layer is linear, so this costs nothing at run time: the Euclidean distance becomes one in units of normal
    variation (Mahalanobis, with the covariance within machines; its weaker half of directions counts as noise and is
    not magnified further). Two normal windows are then about 1 apart.
    """
    covariance = np.cov(within(embeddings.astype(np.float64), machines), rowvar=False)
    values, vectors = np.linalg.eigh(covariance)
    turn = vectors / np.sqrt(np.maximum(values, np.median(values)) * 2 * len(values))
    layer = head.get_layer("embedding")
    kernel, bias = layer.get_weights()
    layer.set_weights([(kernel @ turn).astype(np.float32), (bias @ turn).astype(np.float32)])
