"""A transform of which no two views are alike."""

import albumentations as A

CROP = A.Compose([A.RandomCrop(6, 6), A.HorizontalFlip(), A.RandomBrightnessContrast(p=1)])
