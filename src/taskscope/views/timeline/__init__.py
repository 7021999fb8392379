"""``taskscope timeline``: lives as a page in a browser.

`pack` makes the data, `page` the HTML; the page's own sources are in web/.
"""
