"""A folder in CelebA's layout, of procedural faces: 178 x 218 JPEGs and a table of forty-odd columns less most."""

from pathlib import Path

import numpy as np
from PIL import Image

from flowprofile.datasets import faces

COLUMNS = ("Attractive", "Bangs", "Lipstick_Red", "Male", "Smiling", "Wearing_Lipstick")
THESIS = ("Bangs", "Male", "Smiling", "Wearing_Lipstick")


def celeba(folder, count=6, *, side=178):
    """The folder; picture n is face n of a collection of its own, and its label is the face's."""
    folder = Path(folder)
    (folder / "img_align_celeba").mkdir(parents=True)
    drawn = faces.faces(77, range(count), size=side)
    rows = []
    for number, (image, label) in enumerate(zip(drawn.images, drawn.labels, strict=True), start=1):
        values = np.round(255 * image.transpose(1, 2, 0)).astype(np.uint8)
        high = np.pad(values, ((20, 20), (0, 0), (0, 0)), mode="edge")
        Image.fromarray(high).save(folder / "img_align_celeba" / f"{number:06}.jpg", quality=95)
        bangs, male, smile, lipstick = (1 if label >> bit & 1 else -1 for bit in (3, 2, 1, 0))
        rows.append(f"{number:06}.jpg {-1:2} {bangs:2} {1:2} {male:2} {smile:2} {lipstick:2}")
    table = "\n".join([str(count), " ".join(COLUMNS), *rows])
    (folder / "list_attr_celeba.txt").write_text(f"{table}\n")
    return folder, drawn
