"""Tables line up, whatever the numbers."""

from metajax.run.tables import format_table, print_table


def test_table_lines_up_beside_the_papers():
  table = format_table(
    [
      ('query_loss/step_1', {'mean': 0.81234, 'ci95': 0.0341, 'n': 600}),
      ('return', {'mean': -1234.5, 'ci95': 40.4, 'n': 40}),
      ('single', {'mean': 2.0, 'ci95': None, 'n': 1}),
      ('lost', {'mean': None, 'ci95': None, 'n': 3}),
    ],
    {'query_loss/step_1': '0.78', 'return': -1200},
    title='Table 10',
  )
  assert table.splitlines() == [
    'Table 10',
    '                         mean  ± 95 %    n  paper',
    '-------------------------------------------------',
    'query_loss/step_1       0.812   0.034  600   0.78',
    'return                  -1234      40   40  -1200',
    'single                      2       -    1',
    'lost               not finite       -    3',
  ]


def test_table_without_a_paper(capsys):
  print_table([('loss', {'mean': 0.5, 'ci95': 0.0, 'n': 2})])
  assert capsys.readouterr().out.splitlines() == [
    '      mean  ± 95 %  n',
    '---------------------',
    'loss   0.5       0  2',
  ]
