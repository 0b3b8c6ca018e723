"""Two control planes on one fetch know nothing of each other."""

from collections.abc import Mapping

import pytest

from tests.kube.apiserver import Apiserver, Refused

pytestmark = pytest.mark.timeout(400)  # the first test waits for two kube-apiservers to start


def test_a_namespace_of_one_is_unknown_to_the_other(apiservers: Mapping[str, Apiserver]) -> None:
    alpha, beta = apiservers.values()
    namespace = alpha.new_namespace()
    with pytest.raises(Refused) as refused:
        beta.call(f"/api/v1/namespaces/{namespace}")
    assert refused.value.reason == "NotFound"


def test_both_may_have_an_object_of_the_same_name(apiservers: Mapping[str, Apiserver]) -> None:
    namespace = {"metadata": {"name": "same-name"}}
    created = [apiserver.call("/api/v1/namespaces", "POST", namespace) for apiserver in apiservers.values()]
    assert created[0]["metadata"]["uid"] != created[1]["metadata"]["uid"]


def test_a_watch_on_one_hears_nothing_of_the_other(apiservers: Mapping[str, Apiserver]) -> None:
    alpha, beta = apiservers.values()
    revision = alpha.call("/api/v1/namespaces")["metadata"]["resourceVersion"]
    with alpha.watch("/api/v1/namespaces", resourceVersion=revision) as events:
        beta.new_namespace()
        namespace = alpha.new_namespace()
        assert next(events)["object"]["metadata"]["name"] == namespace


def test_each_has_a_default_namespace_of_its_own(apiservers: Mapping[str, Apiserver]) -> None:
    uids = {apiserver.call("/api/v1/namespaces/kube-system")["metadata"]["uid"] for apiserver in apiservers.values()}
    assert len(uids) == len(apiservers)
