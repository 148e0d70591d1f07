"""A subscriber that does not read: it loses its own messages, knows how many, and costs nobody else anything."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.support.figures import figure
from tests.support.messages import decision

from firstspike.client import Subscriber
from firstspike.publish import Publisher


def resident_mib():
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.parametrize("total", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_stalled_subscriber_counts_its_gaps_and_the_healthy_one_has_none(tmp_path, total):
    publisher = Publisher(f"ipc://{tmp_path}/p", "e", high_water_mark=1000)
    seen, finished = [0, 0], threading.Event()
    try:
        with Subscriber(f"ipc://{tmp_path}/p") as stalled, Subscriber(f"ipc://{tmp_path}/p") as healthy:
            for _ in range(2):
                assert publisher.wait_for_subscriber(10, lambda: False)

            def read():
                while seen[0] < total + 1 and (message := healthy.receive(60)) is not None:
                    seen[0] += 1
                    seen[1] = message.seq
                finished.set()

            reader = threading.Thread(target=read)
            reader.start()
            message, before = decision(), 0.0
            for seq in range(total):
                publisher.publish_decision(message.model_copy(update={"seq": seq}))
                while seq - seen[1] > 500:  # the healthy one is one that keeps up
                    finished.wait(0.0005)
                if seq == total // 10:
                    before = resident_mib()
            grown = resident_mib() - before
            received = 0
            while stalled.receive(0.5) is not None:
                received += 1
            publisher.publish_decision(message.model_copy(update={"seq": total}))
            last = stalled.receive(10)
            reader.join(60)
            lost = stalled.lost["decision"]
            figure(
                f"stalled subscriber, {total} messages",
                f"it received {received + 1} and knows of {lost} lost: {received + 1 + lost} of {total + 1}; the "
                f"healthy one lost {healthy.lost['decision']}; memory {grown:+.1f} MiB after the first tenth",
            )
            assert last is not None
            assert last.seq == total
            assert received < total
            assert received + 1 + lost == total + 1
            assert (seen[0], healthy.lost["decision"]) == (total + 1, 0)
            assert grown < 16
    finally:
        publisher.close()
