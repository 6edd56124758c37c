"""The report's sections, one file a stage, and the page that holds them.

To add a section, add `report/<stage>.py` with `def section(step: Step) -> str` (HTML). It may also set
`TITLE` (its heading) and `KEY` (metric → label: the step's main numbers, the first of which goes into the
page's header); and where it joins what other steps measured, `LEAD`, the page's first words, and
`contents(step)`, its parts for the list of contents. Sections read what `steps.Step` holds and nothing else,
and put every text that is not theirs through `esc`.
"""
