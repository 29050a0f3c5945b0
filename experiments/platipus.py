"""PLATIPUS and what it is compared with (Finn, Xu and Levine 2018)."""

from experiments import (
  platipus_circles,
  platipus_images,
  platipus_regression,
)
from metajax.run.launch import launch

EXPERIMENTS = (
  *platipus_regression.EXPERIMENTS,
  *platipus_circles.EXPERIMENTS,
  *platipus_images.EXPERIMENTS,
)

if __name__ == '__main__':
  launch(EXPERIMENTS)
