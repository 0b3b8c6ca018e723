"""Every daemon that lives is a member, the same on all daemons, and one of them leads."""

import asyncio
import json
from typing import Any

import pytest

from fetch.config import Settings
from fetch.peers.members import GONE_SECONDS, Member
from fetch.server import running
from fetch.tls import certificates
from tests import peers
from tests.daemons.conftest import Site as RealSite
from tests.daemons.simulated import Site, create, load, simulate

PATIENCE_SECONDS = 60


def listed(site: Site) -> list[list[Member]]:
    """What each daemon that lives says of all."""
    return [daemon.writers.members.living() for daemon in site.daemons if daemon.alive and daemon.writers is not None]


def test_all_daemons_tell_the_same_members_in_the_same_order() -> None:
    async def test(site: Site) -> None:
        [first, *others] = listed(site)
        assert sorted(member.label for member in first) == ["daemon-0", "daemon-1", "daemon-2"]
        assert all(members == first for members in others)
        assert sorted(member.client_urls[0] for member in first) == [f"http://daemon-{n}:2379" for n in range(3)]

    simulate(3, test)


def test_a_daemon_that_is_killed_is_no_member_any_more() -> None:
    async def test(site: Site) -> None:
        site.daemons[1].kill()
        await asyncio.sleep(2 * GONE_SECONDS)
        assert [sorted(member.label for member in members) for members in listed(site)] == [
            ["daemon-0", "daemon-2"]
        ] * 2

    simulate(3, test)


def test_a_daemon_that_stops_is_no_member_at_the_next_look() -> None:
    async def test(site: Site) -> None:
        await site.daemons[1].stop()
        await asyncio.sleep(4)
        assert [len(members) for members in listed(site)] == [2, 2]

    simulate(3, test)


def test_an_id_is_of_the_urls_that_clients_are_told() -> None:
    one = Member(1, "one", ["https://a:2379", "https://b:2379"], ["https://a:2380"])
    assert one.id == Member(2, "one again", ["https://b:2379", "https://a:2379"], []).id
    assert one.id != Member(1, "one", ["https://c:2379"], ["https://a:2380"]).id
    assert 0 < one.id < 1 << 63


def test_the_writer_leads_and_where_it_does_not_live_the_first_member() -> None:
    async def test(site: Site) -> None:
        await load(lambda number: site.daemons[number % 3], 6, 2)
        writer = await site.writer()
        assert writer.writers is not None
        name = writer.writers.members.own
        members = [daemon.writers.members for daemon in site.daemons if daemon.writers is not None]
        assert {each.leader(name.daemon) for each in members} == {name.id}
        assert {each.leader(0) for each in members} == {members[0].living()[0].id}
        writer.kill()
        await asyncio.sleep(2 * GONE_SECONDS)
        left = [each for each in members if each.own != name]
        assert {each.leader(name.daemon) for each in left} == {left[0].living()[0].id}

    simulate(3, test)


def test_a_row_that_stands_still_is_removed_and_its_daemon_can_come_back() -> None:
    async def test(site: Site) -> None:
        site.daemons[1].binding.cut_off = True
        await asyncio.sleep(90)
        site.daemons[1].binding.cut_off = False
        await asyncio.sleep(20)
        assert [len(members) for members in listed(site)] == [3, 3, 3]
        for daemon in site.daemons:
            assert (await create(daemon, b"/%s" % daemon.name.encode())).succeeded

    simulate(3, test)


async def etcdctl(site: RealSite, settings: Settings, *arguments: str) -> Any:
    """What etcdctl prints of a tenant, by one daemon."""
    program = peers.find("etcdctl") or pytest.skip("there is no etcdctl: `make peers` builds it where Go is")
    certificates.issue(site.clients, "alpha").write(site.directory, "alpha")
    process = await asyncio.create_subprocess_exec(
        program,
        f"--endpoints={settings.listen_client_urls[0]}",
        *(
            f"--{name}={site.directory}/{file}"
            for name, file in (("cacert", "ca.crt"), ("cert", "alpha.crt"), ("key", "alpha.key"))
        ),
        "--write-out=json",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


@pytest.mark.parametrize("with_peers", [True, False])
async def test_etcdctl_sees_all_daemons_and_one_that_leads(site: RealSite, with_peers: bool) -> None:
    changed = {} if with_peers else {"listen_peer_urls": ()}
    one, other = site.settings(name="one", **changed), site.settings(name="other", **changed)
    async with running(one), running(other), asyncio.timeout(PATIENCE_SECONDS):
        while len((await etcdctl(site, one, "member", "list"))["members"]) < 2:
            pass
        lists = [(await etcdctl(site, settings, "member", "list"))["members"] for settings in (one, other)]
        assert lists[0] == lists[1]
        assert {member["name"] for member in lists[0]} == {"one", "other"}
        urls = {member["name"]: member.get("peerURLs", []) for member in lists[0]}
        assert urls == {"one": list(one.listen_peer_urls), "other": list(other.listen_peer_urls)}
        await etcdctl(site, one, "put", "key", "value")
        statuses = [each["Status"] for each in await etcdctl(site, other, "endpoint", "status", "--cluster")]
        healths = await etcdctl(site, other, "endpoint", "health", "--cluster")
    assert [status["header"]["member_id"] == status["leader"] for status in statuses].count(True) == 1
    assert {status["header"]["member_id"] for status in statuses} == {member["ID"] for member in lists[0]}
    assert {status["leader"] for status in statuses} == {statuses[0]["leader"]}
    assert [health["health"] for health in healths] == [True, True]
    assert ("one" in {m["name"] for m in lists[0] if m["ID"] == statuses[0]["leader"]}) or not with_peers
