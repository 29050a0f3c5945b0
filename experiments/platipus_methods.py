"""PLATIPUS and its baselines on a problem, trained and tested alike."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax import Array
import optax

from metajax.core.algorithm import Algorithm
from metajax.core.learner import Learner, Metrics, PyTree, TaskFamily
from metajax.core.meta_training import meta_train
from metajax.core.selection import select_best
from metajax.core.validation import check_positive
from metajax.learners.maml import maml
from metajax.learners.noisy_maml import noisy_maml, noisy_maml_samples
from metajax.learners.platipus import (
  PlatipusConfig,
  platipus,
  platipus_samples,
)
from metajax.learners.task_losses import TaskLoss
from metajax.run.launch import Baseline

# What stands in front of a method's metrics.
METHODS = {
  'PLATIPUS': '',
  'PLATIPUS, prior blind to support': 'unconditional_prior/',
  'MAML': 'maml/',
  'MAML + noise': 'maml/noise/',
  'MAML + noise, trained with it': 'maml_noise/',
}

# `(data, params, key) -> metrics`, each `[num_tasks]`.
Evaluation = Callable[[PyTree, PyTree, Array], Metrics]


class Problem(NamedTuple):
  """What PLATIPUS and its baselines are compared on.

  Attributes:
    network: a flax module.
    task_loss: L.
    tasks: the family of meta-training tasks.
    test: makes the meta-test on held-out tasks from learners of sampled
      models, whose names stand in front of their metrics.
    validate: the same on validation tasks.
    selected_by: the metric that decides the best state, the less the better.
    test_data: pytree of arrays that the meta-test reads, its first argument.
    validation_data: the same of the validation.
  """

  network: object
  task_loss: TaskLoss
  tasks: TaskFamily
  test: Callable[[Mapping[str, Learner]], Evaluation]
  validate: Callable[[Mapping[str, Learner]], Evaluation]
  selected_by: str
  test_data: PyTree = ()
  validation_data: PyTree = ()


def train_platipus(
  config: PlatipusConfig, problem: Problem, *, prior_sees_support: bool = True
) -> Algorithm:
  """Makes PLATIPUS; with a blind prior, its ablation."""
  learner = platipus(
    problem.network,
    problem.task_loss,
    inner_lr=config.inner_lr,
    kl_weight=config.kl_weight,
    initial_log_std=config.initial_log_std,
    initial_gamma=config.initial_gamma,
    num_inner_steps=config.num_inner_steps,
    prior_sees_support=prior_sees_support,
    posterior_sees_support=config.posterior_sees_support,
    clip=config.clip,
  )
  sampler = platipus_sampler(
    config, problem, prior_sees_support=prior_sees_support
  )
  return _train(config, problem, learner, {'': sampler})


def train_maml(config: PlatipusConfig, problem: Problem) -> Algorithm:
  """Makes MAML, which is also tested with noise on its gradients."""
  learner = maml(
    problem.network,
    problem.task_loss,
    inner_lr=config.inner_lr,
    clip=config.clip,
    num_inner_steps=config.num_inner_steps,
  )
  samplers = {
    '': maml_sampler(config, problem),
    'noise/': _noisy_sampler(config, problem),
  }
  return _train(config, problem, learner, samplers)


def train_noisy_maml(config: PlatipusConfig, problem: Problem) -> Algorithm:
  """Makes MAML that meets the noise in training, too."""
  learner = noisy_maml(
    problem.network,
    problem.task_loss,
    inner_lr=config.inner_lr,
    noise_std=config.gradient_noise_std,
    num_inner_steps=config.num_inner_steps,
    clip=config.clip,
  )
  return _train(config, problem, learner, {'': _noisy_sampler(config, problem)})


def baselines_of(
  problem: Callable[[Any], Problem],
) -> dict[str, Baseline]:
  """Returns what PLATIPUS is compared with on a problem, by name.

  Args:
    problem: makes the problem from a `PlatipusConfig`.
  """

  def unconditional_prior(config: PlatipusConfig) -> Algorithm:
    """Makes the ablation whose prior does not see the support."""
    return train_platipus(config, problem(config), prior_sees_support=False)

  return {
    'unconditional_prior': Baseline(unconditional_prior),
    'maml': Baseline(lambda config: train_maml(config, problem(config))),
    'maml_noise': Baseline(
      lambda config: train_noisy_maml(config, problem(config))
    ),
  }


def platipus_sampler(
  config: PlatipusConfig, problem: Problem, *, prior_sees_support: bool = True
) -> Learner:
  """Returns the learner that draws models with PLATIPUS."""
  return platipus_samples(
    problem.network,
    problem.task_loss,
    inner_lr=config.inner_lr,
    num_samples=config.num_samples,
    num_inner_steps=config.num_inner_steps,
    prior_sees_support=prior_sees_support,
    clip=config.clip,
  )


def maml_sampler(config: PlatipusConfig, problem: Problem) -> Learner:
  """Returns MAML as a learner of sampled models that draws its only one."""
  return _noisy_sampler(
    config.replace(num_samples=1, gradient_noise_std=0.0), problem
  )


def _noisy_sampler(config, problem) -> Learner:
  return noisy_maml_samples(
    problem.network,
    problem.task_loss,
    inner_lr=config.inner_lr,
    noise_std=config.gradient_noise_std,
    num_samples=config.num_samples,
    num_inner_steps=config.num_inner_steps,
    clip=config.clip,
  )


def _train(config, problem, learner, samplers) -> Algorithm:
  check_positive('outer_lr', config.outer_lr)
  algorithm = meta_train(
    learner,
    problem.tasks,
    # One vector for the whole of a small network is quicker than many leaves.
    optax.flatten(
      optax.chain(optax.clip(config.clip), optax.adam(config.outer_lr))
    ),
    meta_batch_size=config.meta_batch_size,
    task_chunk_size=config.task_chunk_size,
  )
  test = problem.test(samplers)
  # What is selected by are the metrics of the method itself.
  validate = problem.validate({'': samplers['']})

  def evaluated(evaluation, held_out):
    return algorithm._replace(
      data=(problem.tasks.data, held_out),
      evaluate=lambda data, state, key: evaluation(data[1], state.params, key),
    )

  return select_best(
    evaluated(test, problem.test_data),
    problem.selected_by,
    every=config.validate_every,
    validation=evaluated(validate, problem.validation_data),
  )
