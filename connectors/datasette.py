"""Datasette: the rows of any table or view that a Datasette publishes.

    syncer pull datasette --set url=https://data.example.org --set database=harbour --set table=buoys

A table may have any columns, so the model names none and every row that is an object is written whole. The
shape of an answer was taken from Datasette 0.65 and 1.0a41 themselves (November 2026): `rows` holds objects with the
columns as names, `next_url` the next page or null. Versions before 1.0 also say how many rows there are.

SQLite's values come as JSON has them: text as a string, a blob as `{"$base64": true, "encoded": "…"}`, an integer with
all its digits. Infinity, which JSON does not have, would come as null and nobody would know; `_json_infinity` has it
sent as it is, so that such a row is rejected instead. `_nofacet` spares the server work whose result is not used.

A table's pages go by its primary key, those of a view by counting. Which columns the key has is not known here, so
no row is recognised as one that was seen before, and a later run asks for everything again. Where a key's column has
no type, Datasette 0.65 itself compares numbers with text and passes over rows; the total it declares then shows it.

A name with other characters than letters, digits, `_` and `-` is given as it stands in Datasette's own addresses:
`2026 tides.csv` as `2026~20tides~2Ecsv`. A Datasette behind a proxy that adds HTTPS must know of it (its setting
force_https_urls), or it names pages that are not on the same server and the run stops.
"""

from pydantic import BaseModel

from syncer import Connector, NextLink, Rate, Stream


class Row(BaseModel):
    """Any object."""


connector = Connector(
    name="datasette",
    base_url="{url}",
    rate=Rate(10),
    settings={
        "url": "where Datasette runs: https://data.example.org",
        "database": "the name of the database, as in Datasette's addresses",
        "table": "the name of the table or view, as in Datasette's addresses",
    },
    streams=(
        Stream(
            name="rows",
            path="/{database}/{table}.json",
            params={"_shape": "objects", "_size": "max", "_json_infinity": 1, "_nofacet": 1},
            records="rows",
            total="filtered_table_rows_count",
            pagination=NextLink("next_url"),
            model=Row,
            unknown="keep",
        ),
    ),
)
