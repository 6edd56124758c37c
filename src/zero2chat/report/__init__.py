"""The report: a page of a recipe's results. Each stage declares its section as a `section.Section`."""
