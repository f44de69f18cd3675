"""WordPress: the posts and comments of one site.

    syncer pull wordpress --set site=https://blog.example.org

The models follow the REST API handbook (github.com/WP-API/docs, reference/posts.md and reference/comments.md, June
2025): the fields that its schema shows to everybody, all of them promised. Plugins may add fields, which are
counted; a record from which one takes a field away is rejected. Two things the handbook leaves out are taken from
WordPress's own code: `meta` is an empty list, and not an object, where a site has registered none, and
`author_avatar_urls` is absent where a site shows no avatars.

`date` and `modified` are in the time zone of the site, `date_gmt` and `modified_gmt` in UTC, and all four are written
without a zone. They are kept as they came.

Only what is published is listed. A site that lets nobody read its API without an account takes an application
password: WORDPRESS_USER and WORDPRESS_APPLICATION_PASSWORD. The total that a site declares also counts comments
on posts that the reader may not see and that it then leaves out.

A later run asks for everything again, on purpose, because WordPress offers no question that would miss nothing:

- A post that was written last week and scheduled for today keeps last week's `modified` when it appears, so a run
  that asks with `modified_after` for what changed since yesterday never sees it. It is the same with a comment that
  waited for approval: `after` compares when it was written, and comments have no date of change at all.
- Both parameters leave out the second they name, and both compare the site's local time, in which one hour comes
  twice when summer time ends; and a site may move to another zone.

The order is that of ids: what is added while a run is under way comes at its end and moves nothing. Pages are
counted, so a post deleted meanwhile moves those behind it up by one, and one of them may be passed over until the
next run.
"""

from typing import Literal

from pydantic import BaseModel, JsonValue, NaiveDatetime

from syncer import Basic, Connector, Header, PageNumber, Rate, Stream


class Rendered(BaseModel):
    """A text as the site's pages show it: HTML."""

    rendered: str


class Content(BaseModel):
    """A text as the site's pages show it, and whether a password keeps it back."""

    rendered: str
    protected: bool


class Post(BaseModel):
    id: int
    date: NaiveDatetime | None
    date_gmt: NaiveDatetime | None
    modified: NaiveDatetime
    modified_gmt: NaiveDatetime
    guid: Rendered
    link: str
    slug: str
    status: Literal["publish", "future", "draft", "pending", "private"]
    type: str
    title: Rendered
    content: Content
    excerpt: Content
    author: int
    featured_media: int
    comment_status: Literal["open", "closed"]
    ping_status: Literal["open", "closed"]
    sticky: bool
    template: str
    format: Literal["standard", "aside", "chat", "gallery", "link", "image", "quote", "status", "video", "audio"]
    meta: dict[str, JsonValue] | list[JsonValue]
    categories: list[int]
    tags: list[int]


class Comment(BaseModel):
    id: int
    post: int
    parent: int
    author: int
    author_name: str
    author_url: str
    author_avatar_urls: dict[str, str] | None = None
    date: NaiveDatetime
    date_gmt: NaiveDatetime
    content: Rendered
    link: str
    status: str
    type: str
    meta: dict[str, JsonValue] | list[JsonValue]


connector = Connector(
    name="wordpress",
    base_url="{site}/wp-json/wp/v2",
    auth=Basic("WORDPRESS_USER", "WORDPRESS_APPLICATION_PASSWORD", optional=True),
    rate=Rate(4),
    settings={"site": "where the blog is, without a slash at the end: https://blog.example.org"},
    streams=(
        Stream(
            name="posts",
            path="/posts",
            params={"per_page": 100, "orderby": "id", "order": "asc"},
            pagination=PageNumber(pages=Header("X-WP-TotalPages")),
            total=Header("X-WP-Total"),
            model=Post,
            primary_key="id",
        ),
        Stream(
            name="comments",
            path="/comments",
            params={"per_page": 100, "orderby": "id", "order": "asc"},
            pagination=PageNumber(pages=Header("X-WP-TotalPages")),
            total=Header("X-WP-Total"),
            model=Comment,
            primary_key="id",
        ),
    ),
)
