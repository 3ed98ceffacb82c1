"""One file a view: `show(pages, given)` gathers what its template of the same name shows."""
