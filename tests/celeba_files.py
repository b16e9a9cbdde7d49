"""Small files laid out as torchvision keeps CelebA, for tests."""

import numpy as np
from PIL import Image


def write_celeba(base, partition):
    """Random images of CelebA's size and its tables, `partition` saying for each image whether train (0), valid or test (2)."""
    (base / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06}.jpg" for i in range(1, len(partition) + 1)]
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (109, 89, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((178, 218)).save(base / "img_align_celeba" / name)

    def table(file, header, values):
        (base / file).write_text("\n".join([*header, *(f"{n}  {v}" for n, v in zip(names, values, strict=True))]) + "\n")

    count = str(len(names))
    table("list_eval_partition.txt", [], partition)
    table("identity_CelebA.txt", [], range(len(names)))
    table("list_attr_celeba.txt", [count, "Bald Smiling"], ["-1  1"] * len(names))
    table("list_bbox_celeba.txt", [count, "image_id x_1 y_1 width height"], ["1 2 3 4"] * len(names))
    table("list_landmarks_align_celeba.txt", [count, "lefteye_x lefteye_y"], ["69 109"] * len(names))
