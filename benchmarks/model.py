"""What a record is: the model that everything here validates with, where it validates with pydantic."""

from datetime import date
from decimal import Decimal
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field


class Customer(BaseModel):
    id: int
    name: str = Field(min_length=1)
    email: str
    city: str
    country: str = Field(min_length=2, max_length=2)
    vip: bool


class Item(BaseModel):
    id: int
    uuid: str
    kind: Literal["invoice", "credit_note", "order"]
    number: str
    status: Literal["draft", "open", "paid", "void", "overdue"]
    created_at: AwareDatetime
    updated_at: AwareDatetime
    due_on: date
    customer: Customer
    tags: list[str]
    currency: str
    subtotal: Decimal
    tax: Decimal
    discount: Decimal | None
    quantity: int = Field(ge=0)
    weight: float
    paid: bool
    priority: int
    channel: Literal["web", "shop", "phone", "partner"]
    language: str
    reference: str | None
    url: str
    note: str
    description: str
    version: int


class Page(BaseModel):
    """An answer of the server."""

    records: list[Item]
    page: int
    next: str | None
