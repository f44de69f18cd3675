"""A Django REST framework site in one file: measurements in SQLite, behind each of its three paginators.

    python measurements.py --port 8000 --db measurements.db --rows 5003 --account user:password:token

    /by-page/    PageNumberPagination, ?page= and ?page_size=; ordered by change; ?updated_since= (inclusive)
    /by-offset/  LimitOffsetPagination, ?limit= and ?offset=
    /by-cursor/  CursorPagination over `created`, which many rows share
    /private/    as /by-offset/, for those with the token or the password
    /health/     whether it is up

The file is made, filled (the same every time) and given its one account unless it is there already.
"""

from __future__ import annotations

import argparse
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import django
from django.conf import settings

arguments = argparse.ArgumentParser()
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--db", type=Path, required=True)
arguments.add_argument("--rows", type=int, default=5003)
arguments.add_argument("--account", default="reader:secret:token")
options = arguments.parse_args()

settings.configure(
    SECRET_KEY="made up, for loopback only",
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": options.db, "OPTIONS": {"timeout": 60}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "rest_framework.authtoken"],
    # A password is checked with every page: the real hasher would cost more than the page.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    REST_FRAMEWORK={
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
    },
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    TIME_ZONE="UTC",
)
django.setup()

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.core.servers.basehttp import WSGIRequestHandler, run  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import generics, pagination, permissions, serializers  # noqa: E402
from rest_framework.authentication import BasicAuthentication, TokenAuthentication  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

FIRST = datetime(2024, 2, 28, 23, 0, tzinfo=UTC)


class Measurement(models.Model):
    station = models.CharField(max_length=80)
    serial = models.BigIntegerField()
    value = models.DecimalField(max_digits=14, decimal_places=4, null=True)
    ratio = models.FloatField(null=True)
    valid = models.BooleanField()
    labels = models.JSONField()
    note = models.TextField(null=True)
    created = models.DateTimeField(db_index=True)
    updated = models.DateTimeField(db_index=True)

    class Meta:
        app_label = "measurements"


class MeasurementSerializer(serializers.ModelSerializer[Measurement]):
    class Meta:
        model = Measurement
        fields = "__all__"


class ByPage(generics.ListAPIView[Measurement]):
    class Pages(pagination.PageNumberPagination):
        page_size = 100
        page_size_query_param = "page_size"
        max_page_size = 500

    serializer_class = MeasurementSerializer
    pagination_class = Pages

    def get_queryset(self) -> models.QuerySet[Measurement]:
        rows = Measurement.objects.order_by("updated", "id")
        since = self.request.query_params.get("updated_since")
        return rows if since is None else rows.filter(updated__gte=serializers.DateTimeField().to_internal_value(since))


class ByOffset(generics.ListAPIView[Measurement]):
    class Offsets(pagination.LimitOffsetPagination):
        default_limit = 100
        max_limit = 500

    serializer_class = MeasurementSerializer
    pagination_class = Offsets
    queryset = Measurement.objects.order_by("id")


class ByCursor(generics.ListAPIView[Measurement]):
    class Cursors(pagination.CursorPagination):
        page_size = 230
        ordering = ("created", "id")

    serializer_class = MeasurementSerializer
    pagination_class = Cursors
    queryset = Measurement.objects.all()


class Private(ByOffset):
    authentication_classes = (TokenAuthentication, BasicAuthentication)
    permission_classes = (permissions.IsAuthenticated,)


def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("up")


urlpatterns = [
    path("by-page/", ByPage.as_view()),
    path("by-offset/", ByOffset.as_view()),
    path("by-cursor/", ByCursor.as_view()),
    path("private/", Private.as_view()),
    path("health/", health),
]


def fill(rows: int, account: str) -> None:
    rng = random.Random(rows)
    user, password, token = account.split(":")
    with connection.schema_editor() as editor:
        for model in (ContentType, Permission, Group, User, Token, Measurement):
            editor.create_model(model)
    with transaction.atomic():
        Token.objects.create(user=User.objects.create_user(user, password=password), key=token)
        Measurement.objects.bulk_create([measurement(rng, number) for number in range(rows)])


def measurement(rng: random.Random, number: int) -> Measurement:
    # Stations report together, every five minutes: a cursor over `created` has to get past the ties.
    created = FIRST + timedelta(minutes=5 * (number // 37))
    return Measurement(
        station=rng.choice(("Zürich", "São Paulo", "札幌", "القاهرة", 'O\'Brien "north"', "🛰️ 7")),
        serial=rng.randrange(-(2**63), 2**63),
        value=None if rng.random() < 0.1 else Decimal(rng.randrange(-(10**12), 10**12)).scaleb(-4),
        ratio=None if rng.random() < 0.1 else rng.random() * 10 ** rng.randrange(-9, 9),
        valid=rng.random() < 0.9,
        labels=rng.sample(("dry", "naß", "wind", "été"), rng.randrange(4)),
        note=None if rng.random() < 0.5 else rng.choice(("", "line one\nline two", "<b>50 %</b>", "\u2028 and \\")),
        created=created,
        updated=created + timedelta(microseconds=rng.randrange(30 * 86_400 * 10**6)),
    )


if __name__ == "__main__":
    if not options.db.exists():
        fill(options.rows, options.account)
    # The server writes head and body apart; without this every page waits 40 ms for an acknowledgement.
    WSGIRequestHandler.disable_nagle_algorithm = True
    run("127.0.0.1", options.port, get_wsgi_application(), threading=True)
