"""What the few-shot image experiments share: data, networks, algorithms.

Source: Finn 2018, sections 4.6.2 (Omniglot, MiniImagenet) and 6.4 (what
gradient descent is biased towards).
"""

from flax import struct
import optax

from metajax.core.algorithm import Algorithm
from metajax.core.learner import Learner, TaskFamily
from metajax.core.meta_training import meta_train
from metajax.core.selection import select_best
from metajax.core.validation import check_choice, check_positive
from metajax.learners.maml import fine_tuning_curve, maml
from metajax.learners.nearest_neighbour import nearest_neighbour
from metajax.learners.pretraining import with_new_head
from metajax.learners.task_losses import accuracy, cross_entropy
from metajax.nets.context import WithContext, context_alone
from metajax.nets.vision import (
  all_but_shifts,
  mini_imagenet_network,
  omniglot_network,
  omniglot_perceptron,
)
from metajax.tasks.glyphs import glyphs
from metajax.tasks.image_classification import (
  LabelledImages,
  image_classification,
)
from metajax.tasks.mini_imagenet import mini_imagenet
from metajax.tasks.omniglot import omniglot
from metajax.tasks.pooled_classes import num_pooled_classes, pooled_classes

DATASETS = ('glyphs', 'omniglot', 'mini_imagenet')
_NETWORKS = ('convolutional', 'perceptron')
_HEAD = 'head'
_CONTEXT_CHANNELS = 3  # free pixels beside those of the image


@struct.dataclass
class ImageConfig:
  """Settings of few-shot classification; the defaults are Omniglot's, 5-way.

  Floats are leaves and may be swept; the rest is static.
  """

  inner_lr: float = 0.4  # alpha
  outer_lr: float = 1e-3  # beta, of Adam
  # Bound on each element of the inner and the outer gradient; 0: none.
  clip: float = struct.field(pytree_node=False, default=0.0)
  dataset: str = struct.field(pytree_node=False, default='glyphs')
  data_dir: str = struct.field(pytree_node=False, default='')
  network: str = struct.field(pytree_node=False, default='convolutional')
  filters: int = struct.field(pytree_node=False, default=64)
  ways: int = struct.field(pytree_node=False, default=5)
  shots: int = struct.field(pytree_node=False, default=1)
  query_shots: int = struct.field(pytree_node=False, default=1)
  num_inner_steps: int = struct.field(pytree_node=False, default=1)
  first_order: bool = struct.field(pytree_node=False, default=False)
  learn_inner_lr: bool = struct.field(pytree_node=False, default=False)
  rematerialise: bool = struct.field(pytree_node=False, default=False)
  meta_batch_size: int = struct.field(pytree_node=False, default=32)
  task_chunk_size: int | None = struct.field(pytree_node=False, default=None)
  # Meta-iterations between validations, of which the best state is tested.
  validate_every: int = struct.field(pytree_node=False, default=1000)
  # Meta-test, on classes of their own: gradient steps, tasks, query images.
  num_test_steps: int = struct.field(pytree_node=False, default=3)
  num_test_tasks: int = struct.field(pytree_node=False, default=600)
  test_query_shots: int = struct.field(pytree_node=False, default=1)
  # Images of a step of pretraining, and the step sizes with which the
  # baselines are fine-tuned, chosen on the validation classes.
  pretraining_batch_size: int = struct.field(pytree_node=False, default=128)
  pretrained_inner_lr: float = 0.1
  context_inner_lr: float = 0.4
  from_scratch_inner_lr: float = 0.4


def images(config: ImageConfig, split: str, *, size: int = 28):
  """Returns the `LabelledImages` of a split of the config's data set."""
  check_choice('dataset', config.dataset, DATASETS)
  if config.dataset == 'glyphs':
    return glyphs(split, size=size)
  if config.dataset == 'omniglot':
    return omniglot(config.data_dir, split, size=size)
  return mini_imagenet(config.data_dir, split)


def image_network(config: ImageConfig, *, ways: int | None = None):
  """Returns the network of the config's data set, for so many classes."""
  check_choice('network', config.network, _NETWORKS)
  ways = config.ways if ways is None else ways
  if config.network == 'perceptron':
    return omniglot_perceptron(ways)
  if config.dataset == 'mini_imagenet':
    return mini_imagenet_network(ways, filters=config.filters)
  return omniglot_network(ways, filters=config.filters)


def image_tasks(config: ImageConfig, split: str) -> TaskFamily:
  """Returns the tasks of a split, whose classes no other split has."""
  return classification(config, images(config, split), split)


def classification(
  config: ImageConfig, pictures: LabelledImages, split: str
) -> TaskFamily:
  """Returns the tasks on `pictures`, with the split's number of queries."""
  is_training = split == 'train'
  return image_classification(
    pictures,
    ways=config.ways,
    shots=config.shots,
    query_shots=config.query_shots if is_training else config.test_query_shots,
    quarter_turns=config.dataset != 'mini_imagenet',
  )


def image_maml(config: ImageConfig) -> Algorithm:
  """Makes MAML on few-shot images."""
  return trained(config, _maml(config, image_network(config)), _curve(config))


def first_order(config: ImageConfig) -> Algorithm:
  """Makes MAML without second derivatives."""
  return image_maml(config.replace(first_order=True))


def context_vector(config: ImageConfig) -> Algorithm:
  """Makes the baseline that adapts an input of its own, and nothing else."""
  network = WithContext(image_network(config), size=_CONTEXT_CHANNELS)
  learner = maml(
    network,
    cross_entropy,
    inner_lr=config.context_inner_lr,
    measures=accuracy,
    what_adapts=context_alone,
    clip=_clip(config),
    num_inner_steps=config.num_inner_steps,
  )
  curve = fine_tuning_curve(
    network,
    cross_entropy,
    inner_lr=config.context_inner_lr,
    num_steps=config.num_test_steps,
    measures=accuracy,
    what_adapts=context_alone,
    clip=_clip(config),
  )
  return trained(config, learner, curve)


def pretrained(config: ImageConfig) -> Algorithm:
  """Makes the baseline that tells all classes apart, then is fine-tuned."""
  pictures = images(config, 'train')
  turned = config.dataset != 'mini_imagenet'
  network = image_network(
    config, ways=num_pooled_classes(pictures, quarter_turns=turned)
  )
  learner = maml(
    network,
    # The mean: the step sizes of an inner loop are no concern here.
    lambda logits, labels: cross_entropy(logits, labels) / logits.shape[-1],
    inner_lr=config.pretrained_inner_lr,
    measures=accuracy,
    num_inner_steps=0,
  )
  curve = _curve(config, inner_lr=config.pretrained_inner_lr)
  return trained(
    config.replace(meta_batch_size=1, task_chunk_size=1),
    learner,
    with_new_head(curve, head=_HEAD, ways=config.ways),
    tasks=pooled_classes(
      pictures,
      batch_size=config.pretraining_batch_size,
      quarter_turns=turned,
    ),
  )


def from_scratch(config: ImageConfig) -> Algorithm:
  """Makes the baseline that fine-tunes random weights."""
  return untrained(
    config, _curve(config, inner_lr=config.from_scratch_inner_lr)
  )


def nearest_pixels(config: ImageConfig) -> Algorithm:
  """Makes the baseline that takes the label of the nearest image."""
  return untrained(config, nearest_neighbour())


def untrained(config: ImageConfig, learner: Learner) -> Algorithm:
  """Makes the algorithm that tests what is not trained."""
  return meta_train(
    learner,
    image_tasks(config, 'train'),
    optax.identity(),
    meta_batch_size=1,
    task_chunk_size=1,
    test_tasks=image_tasks(config, 'test'),
    num_test_tasks=config.num_test_tasks,
  )


def trained(
  config: ImageConfig,
  learner: Learner,
  test_learner: Learner,
  *,
  tasks: TaskFamily | None = None,
  validation_tasks: TaskFamily | None = None,
  test_tasks: TaskFamily | None = None,
  validation_learner: Learner | None = None,
) -> Algorithm:
  """Has a learner trained, and its best state by validation tested.

  Args:
    config: the settings.
    learner: what is trained.
    test_learner: what is tested, on the same parameters.
    tasks: what it is trained on. None: tasks on the training classes.
    validation_tasks: what decides the best state. None: tasks on the
      validation classes.
    test_tasks: what it is tested on. None: tasks on the test classes.
    validation_learner: what is validated. None: `test_learner`.
  """
  check_positive('outer_lr', config.outer_lr)

  def on(held_out, tester):
    return meta_train(
      learner,
      image_tasks(config, 'train') if tasks is None else tasks,
      _optimizer(config),
      meta_batch_size=config.meta_batch_size,
      task_chunk_size=config.task_chunk_size,
      test_learner=tester,
      test_tasks=held_out,
      num_test_tasks=config.num_test_tasks,
    )

  return select_best(
    on(
      image_tasks(config, 'test') if test_tasks is None else test_tasks,
      test_learner,
    ),
    'query_loss',
    every=config.validate_every,
    validation=on(
      image_tasks(config, 'validation')
      if validation_tasks is None
      else validation_tasks,
      test_learner if validation_learner is None else validation_learner,
    ),
  )


def _optimizer(config) -> optax.GradientTransformation:
  adam = optax.adam(config.outer_lr)
  return optax.chain(optax.clip(config.clip), adam) if config.clip else adam


def image_learner(config: ImageConfig) -> Learner:
  """Returns MAML on the config's network."""
  return _maml(config, image_network(config))


def image_curve(config: ImageConfig) -> Learner:
  """Returns its meta-test learner, which reports every gradient step."""
  return _curve(config)


def _maml(config, network) -> Learner:
  check_positive('inner_lr', config.inner_lr)
  return maml(
    network,
    cross_entropy,
    inner_lr=config.inner_lr,
    measures=accuracy,
    what_adapts=all_but_shifts,
    clip=_clip(config),
    num_inner_steps=config.num_inner_steps,
    first_order=config.first_order,
    learn_inner_lr=config.learn_inner_lr,
    rematerialise=config.rematerialise,
  )


def _curve(config, *, inner_lr=None) -> Learner:
  return fine_tuning_curve(
    image_network(config),
    cross_entropy,
    inner_lr=config.inner_lr if inner_lr is None else inner_lr,
    num_steps=config.num_test_steps,
    measures=accuracy,
    what_adapts=all_but_shifts,
    clip=_clip(config),
  )


def _clip(config) -> float | None:
  return config.clip or None
