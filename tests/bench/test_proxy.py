"""Round trips are counted as they are made."""

from __future__ import annotations

from pathlib import Path

from redis import Redis

from bench.proxy import CountingProxy
from bench.running import RedisServer


def test_a_command_is_a_round_trip_and_so_is_a_pipeline(tmp_path: Path):
    with RedisServer(tmp_path / "redis") as server, CountingProxy() as proxy:
        with Redis.from_url(proxy.listen(server.port)) as client:
            client.ping()
            before = dict(proxy.trips)
            client.set("a", 1)
            pipeline = client.pipeline(transaction=False)
            for number in range(100):
                pipeline.set(f"key {number}", number)
            pipeline.execute()
            assert client.get("a") == b"1"
            assert proxy.trips["other"] - before["other"] == 3
        assert proxy.trips["worker"] == 0


def test_a_worker_is_known_by_the_name_it_logs_in_with(tmp_path: Path):
    with RedisServer(tmp_path / "redis") as server, CountingProxy() as proxy:
        url = proxy.listen(server.port)
        with Redis.from_url(server.url) as operator:
            operator.execute_command("ACL", "SETUSER", "swamp-m-1", "on", "nopass", "+@all")
        with Redis.from_url(url, username="swamp-m-1", password="any") as worker:
            worker.ping()
        assert proxy.trips["worker"] > 0
        assert proxy.trips["other"] == 0
