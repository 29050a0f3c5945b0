"""What gradient descent is biased towards (Finn 2018, section 6.4)."""

from experiments import image_studies, polynomial_depth, sinusoid_curves
from metajax.run.launch import launch

EXPERIMENTS = (
  *sinusoid_curves.EXPERIMENTS,
  *polynomial_depth.EXPERIMENTS,
  *image_studies.EXPERIMENTS,
)

if __name__ == '__main__':
  launch(EXPERIMENTS)
