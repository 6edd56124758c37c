"""The report's sections, one file per stage, and the page that contains them.

To add a section, add `report/<stage>.py` with `def section(step: StepResult) -> str` (HTML). It may also set `TITLE`
(its heading) and `KEY` (metric → label: the step's main metrics; the first one goes into the page's header). If it
combines other steps' results, it may set `LEAD` (the page's first paragraph) and `contents(step)` (its entries in the
table of contents). A section reads only the `steps.StepResult`, and passes every text that is not its own through
`esc`. Most sections are `parts.opening` (story and main metrics), `figures.charts` (training curves) and
`parts.answers` or `parts.examples`.
"""
