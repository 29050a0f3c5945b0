"""MAML and what it is compared with, supervised (Finn 2018, chapters 4, 7)."""

from experiments import maml_images, maml_sinusoids
from metajax.run.launch import launch

EXPERIMENTS = (*maml_sinusoids.EXPERIMENTS, *maml_images.EXPERIMENTS)

if __name__ == '__main__':
  launch(EXPERIMENTS)
