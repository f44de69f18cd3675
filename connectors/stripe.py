"""Stripe: the charges and customers of one account.

    STRIPE_API_KEY=… syncer pull stripe

A restricted key that may read charges and customers is enough. Amounts are in the smallest unit of their
currency (cents; yen as they are) and moments are seconds since 1970, as Stripe writes them.

The models follow Stripe's own OpenAPI description (github.com/stripe/openapi and the types generated from it in
github.com/stripe/stripe-python, July 2026), version 2026-06-24.dahlia: the schemas `charge` and `customer` and what
they hold. Every request asks for that version, so that the shape does not depend on what an account is set to.
Fields that the description does not promise, or lets be null, have the default None. References stay
what they are when nothing is expanded: ids.

What a later run asks for: objects created since the last run, and that is less than what is new. `created` never
changes and Stripe's lists have no other filter of this kind, so a charge that is captured, refunded or disputed
later, and a customer whose address changes, keep the state in which they were first seen. Nothing that was created
is missed. To see what became of them, pull into a new directory from time to time; Stripe's events name every
change, but only of the last thirty days. A customer that was deleted is not listed any more.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from syncer import Bearer, Connector, EpochSeconds, LastRecord, Rate, Stream

Currency = Annotated[str, Field(pattern=r"^[a-z]{3}$")]


class Address(BaseModel):
    line1: str | None = None
    line2: str | None = None
    postal_code: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None


class BillingDetails(BaseModel):
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    address: Address | None = None
    tax_id: str | None = None


class Shipping(BaseModel):
    name: str | None = None
    phone: str | None = None
    address: Address | None = None
    carrier: str | None = None
    tracking_number: str | None = None


class FraudDetails(BaseModel):
    stripe_report: str | None = None
    user_report: str | None = None


class Outcome(BaseModel):
    """Whether the payment was let through, and why."""

    type: str
    reason: str | None = None
    network_status: str | None = None
    network_decline_code: str | None = None
    risk_level: str | None = None
    risk_score: int | None = None
    seller_message: str | None = None


class Card(BaseModel):
    brand: str | None = None
    country: str | None = None
    exp_month: int
    exp_year: int
    funding: str | None = None
    last4: str | None = None
    network: str | None = None


class PaymentMethodDetails(BaseModel):
    """How it was paid; of the several dozen methods only cards are looked into."""

    type: str
    card: Card | None = None


class Charge(BaseModel):
    id: str
    object: Literal["charge"]
    amount: int
    amount_captured: int
    amount_refunded: int
    application_fee_amount: int | None = None
    balance_transaction: str | None = None
    billing_details: BillingDetails
    calculated_statement_descriptor: str | None = None
    captured: bool
    created: EpochSeconds
    currency: Currency
    customer: str | None = None
    description: str | None = None
    disputed: bool
    failure_code: str | None = None
    failure_message: str | None = None
    fraud_details: FraudDetails | None = None
    livemode: bool
    metadata: dict[str, str]
    on_behalf_of: str | None = None
    outcome: Outcome | None = None
    paid: bool
    payment_intent: str | None = None
    payment_method: str | None = None
    payment_method_details: PaymentMethodDetails | None = None
    receipt_email: str | None = None
    receipt_number: str | None = None
    receipt_url: str | None = None
    refunded: bool
    review: str | None = None
    shipping: Shipping | None = None
    source_transfer: str | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    status: Literal["failed", "pending", "succeeded"]
    transfer_group: str | None = None


class CustomField(BaseModel):
    name: str
    value: str


class InvoiceSettings(BaseModel):
    default_payment_method: str | None = None
    footer: str | None = None
    custom_fields: list[CustomField] | None = None


class Customer(BaseModel):
    id: str
    object: Literal["customer"]
    address: Address | None = None
    balance: int | None = None
    business_name: str | None = None
    created: EpochSeconds
    currency: Currency | None = None
    customer_account: str | None = None
    default_source: str | None = None
    delinquent: bool | None = None
    description: str | None = None
    email: str | None = None
    individual_name: str | None = None
    invoice_credit_balance: dict[str, int] | None = None
    invoice_prefix: str | None = None
    invoice_settings: InvoiceSettings | None = None
    livemode: bool
    metadata: dict[str, str] | None = None
    name: str | None = None
    next_invoice_sequence: int | None = None
    phone: str | None = None
    preferred_locales: list[str] | None = None
    shipping: Shipping | None = None
    tax_exempt: Literal["exempt", "none", "reverse"] | None = None
    test_clock: str | None = None


connector = Connector(
    name="stripe",
    base_url="https://api.stripe.com/v1",
    auth=Bearer(env="STRIPE_API_KEY"),
    rate=Rate(25),
    headers={"Stripe-Version": "2026-06-24.dahlia"},
    streams=(
        Stream(
            name="charges",
            path="/charges",
            params={"limit": 100},
            records="data",
            pagination=LastRecord(param="starting_after", more="has_more"),
            model=Charge,
            primary_key="id",
            replication_key="created",
            since="created[gte]",
        ),
        Stream(
            name="customers",
            path="/customers",
            params={"limit": 100},
            records="data",
            pagination=LastRecord(param="starting_after", more="has_more"),
            model=Customer,
            primary_key="id",
            replication_key="created",
            since="created[gte]",
        ),
    ),
)
