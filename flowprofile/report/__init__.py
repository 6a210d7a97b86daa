"""Many experiments on one page: each with its question, its control, and a verdict by a rule that was written before.

`items` finds the definitions, `budget` decides how many seeds each can afford, `carrying` runs them, `rules` judge
what came out, `pictures` and `page` show it. What a rule may conclude is in `verdicts`.
"""
