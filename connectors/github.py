"""GitHub: the issues, commits and releases of one repository.

    syncer pull github --set repo=owner/name

The models follow GitHub's own OpenAPI description of its REST API, version 2026-03-10 (github.com/github/
rest-api-description, read in August 2026 in the types that github.com/yanyongyu/githubkit generates from it): the
schemas `issue`, `commit`, `release` and what they hold. What the description always promises is required here, what
it lets be null is `| None`, what it lets be absent has a default.

A public repository can be read without a token, sixty requests an hour; GITHUB_TOKEN raises that to 5,000.
The rate below is the one with a token, the answers' own X-RateLimit headers hold a run without one back.

What a later run asks for:

- issues: those updated since the last run. Pull requests are issues to GitHub and stand in this list too, told
  apart by `pull_request`. An issue that was deleted or moved to another repository leaves no trace.
  In a large repository GitHub's next link names a place in the list, in a small one it may only count pages. So the
  latest change comes first: an issue that is updated while the list is read moves to its front and is brought by the
  next run, and those behind it move back by one, so that one may come twice but none slips through. Oldest first,
  one would move up onto a page that was read already, and be lost.
- commits: everything, each time. There is a parameter `since`, but it compares the committer's date, and the list
  does not grow in that order: a branch that was begun last month and merged today brings commits dated last
  month, which a run that asks for today's would never see. The order of the list is the history's, not that of
  dates, and the date is not even a field of the record but of `commit.committer` within. Commits of branches
  other than the default one are not listed.
- releases: everything, each time; GitHub has no parameter to ask for less. Drafts are listed only to those who
  may push.
"""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from syncer import HOUR, Bearer, Connector, LinkHeader, Rate, Stream


class User(BaseModel):
    login: str
    id: int
    node_id: str
    avatar_url: str
    html_url: str
    type: str
    site_admin: bool


class Nobody(BaseModel):
    """`{}`, which stands where an e-mail address in a commit belongs to no account."""

    model_config = ConfigDict(extra="forbid")


class Label(BaseModel):
    id: int | None = None
    node_id: str | None = None
    name: str | None = None
    description: str | None = None
    color: str | None = None
    default: bool | None = None


class Milestone(BaseModel):
    id: int
    number: int
    title: str
    description: str | None
    state: Literal["open", "closed"]
    open_issues: int
    closed_issues: int
    created_at: AwareDatetime
    updated_at: AwareDatetime
    closed_at: AwareDatetime | None
    due_on: AwareDatetime | None
    html_url: str


class IssueType(BaseModel):
    id: int
    node_id: str
    name: str
    description: str | None
    color: str | None = None


class PullRequest(BaseModel):
    """What tells a pull request from an issue, and when it was merged."""

    url: str | None
    html_url: str | None
    diff_url: str | None
    patch_url: str | None
    merged_at: AwareDatetime | None = None


class Reactions(BaseModel):
    total_count: int
    plus_one: int = Field(alias="+1")
    minus_one: int = Field(alias="-1")
    laugh: int
    confused: int
    heart: int
    hooray: int
    eyes: int
    rocket: int


class SubIssues(BaseModel):
    total: int
    completed: int
    percent_completed: int


class Issue(BaseModel):
    id: int
    node_id: str
    number: int
    title: str
    body: str | None = None
    state: Literal["open", "closed"]
    state_reason: Literal["completed", "reopened", "not_planned", "duplicate"] | None = None
    user: User | None
    author_association: (
        Literal[
            "COLLABORATOR",
            "CONTRIBUTOR",
            "FIRST_TIMER",
            "FIRST_TIME_CONTRIBUTOR",
            "MANNEQUIN",
            "MEMBER",
            "NONE",
            "OWNER",
        ]
        | None
    ) = None
    labels: list[Label | str]
    assignees: list[User] | None = None
    milestone: Milestone | None
    type: IssueType | None = None
    locked: bool
    active_lock_reason: str | None = None
    comments: int
    reactions: Reactions | None = None
    pull_request: PullRequest | None = None
    draft: bool | None = None
    sub_issues_summary: SubIssues | None = None
    parent_issue_url: str | None = None
    closed_by: User | None = None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    closed_at: AwareDatetime | None
    url: str
    html_url: str
    repository_url: str


class Signature(BaseModel):
    """Who wrote or committed, as git has it: any name, any address, any date."""

    name: str | None = None
    email: str | None = None
    date: AwareDatetime | None = None


class Tree(BaseModel):
    sha: str
    url: str


class Verification(BaseModel):
    verified: bool
    reason: str
    signature: str | None
    payload: str | None
    verified_at: str | None = None


class GitCommit(BaseModel):
    """The commit as git has it; the accounts behind it are GitHub's, beside it."""

    message: str
    author: Signature | None
    committer: Signature | None
    tree: Tree
    comment_count: int
    verification: Verification | None = None
    url: str


class Parent(BaseModel):
    sha: str
    url: str
    html_url: str | None = None


class Commit(BaseModel):
    sha: str
    node_id: str
    commit: GitCommit
    author: User | Nobody | None
    committer: User | Nobody | None
    parents: list[Parent]
    url: str
    html_url: str
    comments_url: str


class Asset(BaseModel):
    id: int
    node_id: str
    name: str
    label: str | None
    state: Literal["uploaded", "open"]
    content_type: str
    size: int
    digest: str | None
    download_count: int
    uploader: User | None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    browser_download_url: str


class Release(BaseModel):
    id: int
    node_id: str
    tag_name: str
    target_commitish: str
    name: str | None
    body: str | None = None
    draft: bool
    prerelease: bool
    immutable: bool | None = None
    author: User
    assets: list[Asset]
    created_at: AwareDatetime
    published_at: AwareDatetime | None
    updated_at: AwareDatetime | None = None
    tarball_url: str | None
    zipball_url: str | None
    discussion_url: str | None = None
    reactions: Reactions | None = None
    url: str
    html_url: str


connector = Connector(
    name="github",
    base_url="https://api.github.com",
    auth=Bearer(env="GITHUB_TOKEN", optional=True),
    rate=Rate(5000, per=HOUR),
    headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2026-03-10"},
    settings={"repo": "the repository, as owner/name: octocat/hello-world"},
    streams=(
        Stream(
            name="issues",
            path="/repos/{repo}/issues",
            params={"state": "all", "sort": "updated", "direction": "desc", "per_page": 100},
            pagination=LinkHeader(),
            model=Issue,
            primary_key="id",
            replication_key="updated_at",
            since="since",
        ),
        Stream(
            name="commits",
            path="/repos/{repo}/commits",
            params={"per_page": 100},
            pagination=LinkHeader(),
            model=Commit,
            primary_key="sha",
        ),
        Stream(
            name="releases",
            path="/repos/{repo}/releases",
            params={"per_page": 100},
            pagination=LinkHeader(),
            model=Release,
            primary_key="id",
        ),
    ),
)
