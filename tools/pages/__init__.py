"""Pages of the repository that are generated from what is committed.

============== =================================================================================
`filling`      what the others share: parts of a page, writing or checking it
`readme`       the tables and the gallery of README.md
`teaching`     goals, prerequisites and times in docs/teaching.md
`models`       docs/models.md: what each kind of network gets from each method
`coverage`     docs/coverage.md: how often tests and intervals keep what they promise
`heldout`      docs/verdicts.md: do verdicts of few members hold on others
`groups`       docs/groups.md: what groups of training samples do, and who foretells it
`one_run`      docs/one-run.md: what a single run says of itself, against a hundred seeds
`claims`       the paper's claims, each with the rule that decides it
`reproduction` paper/REPRODUCTION.md: the verdicts on them
============== =================================================================================
"""
