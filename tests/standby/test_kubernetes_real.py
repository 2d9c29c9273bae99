"""The lease at a real API server: what the store promises, of many writers exactly one, and the rights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporter.core.units import NS
from exporter.standby.kubernetes_lease import KubernetesLease, LeaseApiError
from exporter.standby.lease import LeaseRecord
from tests.helm.schemas import check
from tests.standby.kube_api import KubeApi, need_kube_apiserver, of_the_chart
from tests.transport.certificates import Certificates

pytestmark = pytest.mark.soak

DURATION_NS = 15 * NS
NAME = "triton-canary-0"
WRITERS = 8
ROUNDS = 100
CHART = "triton-canary"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[KubeApi]:
    need_kube_apiserver()
    with KubeApi(tmp_path_factory.mktemp("kube"), certificates) as api:
        api.account("full", "get", "create", "update")
        api.account("no-create", "get", "update")
        documents = of_the_chart()
        api.apply(*(documents[kind] for kind in ("ServiceAccount", "Role", "RoleBinding")))
        yield api


@pytest.fixture(autouse=True)
def no_lease(api: KubeApi) -> None:
    api.delete(NAME)


class Account:
    """Stores with the token of a service account."""

    def __init__(self, api: KubeApi, folder: Path, account: str) -> None:
        self._api = api
        self.token_file = folder / account
        self.token_file.write_text(api.token(account))

    def store(self, name: str = NAME) -> KubernetesLease:
        return KubernetesLease(self._api.config(self.token_file), name, 60.0)


@pytest.fixture
def full(api: KubeApi, tmp_path: Path) -> Account:
    return Account(api, tmp_path, "full")


# --- what the store promises -----------------------------------------------------------------------------------------


def test_it_is_made_read_renewed_and_given_up(api: KubeApi, full: Account) -> None:
    ours, theirs = full.store(), full.store()
    assert ours.read() is None
    first = ours.replace(None, "a", DURATION_NS)
    assert first is not None
    assert (first.holder, first.duration_ns) == ("a", DURATION_NS)
    assert theirs.read() == first
    assert theirs.replace(None, "b", DURATION_NS) is None
    second = ours.replace(first, "a", DURATION_NS)
    assert theirs.replace(first, "b", DURATION_NS) is None
    third = ours.replace(second, "", DURATION_NS)
    assert third is not None
    assert third.holder == ""
    assert len({each.token for each in (first, second, third) if each}) == 3
    assert theirs.read() == third
    taken = theirs.replace(third, "b", 12_500_000_000)
    assert taken is not None
    assert (taken.holder, taken.duration_ns) == ("b", 13 * NS)
    spec = api.lease(NAME)["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("b", 13, 2)
    assert spec["acquireTime"] == spec["renewTime"]


def test_what_the_server_keeps_is_valid(api: KubeApi, full: Account) -> None:
    store = full.store()
    store.replace(store.replace(None, "a", DURATION_NS), "b", DURATION_NS)
    check(dict(api.lease(NAME)))


def test_what_others_wrote_into_the_object_stays(api: KubeApi, full: Account) -> None:
    """A stamp of a whole second, too, which the server takes only with its six digits."""
    ours = full.store()
    ours.replace(None, "a", DURATION_NS)
    lease = api.lease(NAME)
    lease["metadata"] |= {"labels": {"team": "x"}, "annotations": {"owner": "sre"}, "finalizers": ["example.com/x"]}
    lease["spec"]["acquireTime"] = "2026-12-01T12:00:00.000000Z"
    api.change(lease)
    assert ours.replace(ours.read(), "a", DURATION_NS) is not None
    lease = api.lease(NAME)
    assert (lease["metadata"]["labels"], lease["metadata"]["annotations"]) == ({"team": "x"}, {"owner": "sre"})
    assert lease["metadata"]["finalizers"] == ["example.com/x"]
    assert lease["spec"]["acquireTime"] == "2026-12-01T12:00:00.000000Z"
    del lease["metadata"]["finalizers"]
    api.change(lease)


def test_an_object_that_was_deleted_is_not_made_by_a_renewal(api: KubeApi, full: Account) -> None:
    """The server makes a Lease by a PUT, too; not by that of an object which had a uid."""
    ours = full.store()
    seen = ours.replace(None, "a", DURATION_NS)
    api.delete(NAME)
    assert ours.replace(seen, "a", DURATION_NS) is None
    assert ours.read() is None
    assert ours.replace(None, "a", DURATION_NS) is not None


@pytest.mark.parametrize("is_there", [True, False])
def test_of_many_writers_that_saw_the_same_exactly_one_succeeds(api: KubeApi, full: Account, is_there: bool) -> None:
    """Whether they replace it or make it."""
    stores = [full.store() for _ in range(WRITERS)]
    barrier = threading.Barrier(WRITERS)
    if is_there:
        stores[0].replace(None, "first", DURATION_NS)

    def write(number: int, round_: int) -> LeaseRecord | None:
        seen = stores[number].read()
        assert (seen is not None) is is_there
        barrier.wait(60)
        return stores[number].replace(seen, f"{number}/{round_}", DURATION_NS)

    with ThreadPoolExecutor(WRITERS) as threads:
        for round_ in range(ROUNDS):
            written = list(threads.map(write, range(WRITERS), [round_] * WRITERS))
            (won,) = [each for each in written if each is not None]
            assert won.holder == f"{written.index(won)}/{round_}"
            assert full.store().read() == won
            if not is_there:
                api.delete(NAME)
    print(f"{ROUNDS} rounds of {WRITERS} writers, {'replacing' if is_there else 'making'} it: one won each")


# --- rights ----------------------------------------------------------------------------------------------------------


def test_the_chart_s_role_is_enough_and_no_more_than_that(api: KubeApi, tmp_path: Path) -> None:
    account = Account(api, tmp_path, CHART)
    store = account.store()
    with pytest.raises(
        LeaseApiError, match=r'create of the Lease triton-canary-0: 403: .* cannot create resource "leases"'
    ):
        store.replace(store.read(), "a", DURATION_NS)
    api.apply(of_the_chart()["Lease"])
    seen = store.read()
    assert seen is not None
    assert (seen.holder, seen.duration_ns) == ("", 0)
    first = store.replace(seen, "a", DURATION_NS)
    second = store.replace(first, "a", DURATION_NS)
    assert store.replace(second, "", DURATION_NS) is not None
    before = of_the_chart()["Lease"]["metadata"]["labels"]
    assert api.lease(NAME)["metadata"]["labels"] == before
    with pytest.raises(LeaseApiError, match=r'get of the Lease another: 403: .* cannot get resource "leases"'):
        account.store("another").read()


def test_without_the_right_to_make_one_all_else_works(api: KubeApi, full: Account, tmp_path: Path) -> None:
    store = Account(api, tmp_path, "no-create").store()
    assert store.read() is None
    with pytest.raises(LeaseApiError, match=r"create of the Lease triton-canary-0: 403: leases\.coordination\.k8s\.io"):
        store.replace(None, "a", DURATION_NS)
    full.store().replace(None, "", DURATION_NS)
    seen = store.replace(store.read(), "a", DURATION_NS)
    assert store.replace(seen, "", DURATION_NS) is not None


def test_a_token_that_is_refused_is_one_clear_error_and_the_next_one_is_read(api: KubeApi, full: Account) -> None:
    store = full.store()
    good = full.token_file.read_text()
    seen = store.replace(None, "a", DURATION_NS)
    for bad in ("wrong", api.expired(good), good[:-4] + "AAAA"):
        full.token_file.write_text(bad)
        with pytest.raises(LeaseApiError, match="update of the Lease triton-canary-0: 401: Unauthorized"):
            store.replace(seen, "a", DURATION_NS)
    full.token_file.write_text(good)
    assert store.replace(seen, "a", DURATION_NS) is not None


def test_a_server_of_another_authority_is_refused(api: KubeApi, full: Account, certificates: Certificates) -> None:
    config = api.config(full.token_file)
    config.cluster.certificate_auth = str(certificates.other_ca)
    with pytest.raises(LeaseApiError, match="get of the Lease triton-canary-0: its certificate is not accepted: "):
        KubernetesLease(config, NAME, 60.0).read()
