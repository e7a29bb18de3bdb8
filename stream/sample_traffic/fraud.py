"""Six kinds of fraud, in waves: a wave is one operation of one fraudster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adclick.stream.sample_traffic.clicks import DAY, HOUR, SECOND, Clicks, Ints, clicks_of
from adclick.stream.sample_traffic.population import WEBVIEW, TrafficPopulation, human_delay, spread


@dataclass(frozen=True)
class Wave:
    """One operation.

    Attributes:
        size: How many clicks it is to have, about.
        start: Its first moment, in microseconds.
        number: Its number among all, which new devices and addresses are named by.
    """

    size: int
    start: int
    number: int

    @property
    def new_device(self) -> int:
        """The first number of its own devices."""
        return 20_000_000 + self.number * 10_000

    @property
    def new_ip(self) -> int:
        """The first of its own addresses."""
        return 0x2D000000 + self.number * 256


def click_farm(rng: np.random.Generator, people: TrafficPopulation, wave: Wave) -> Clicks:
    """People who are paid to click, on dozens of phones behind two addresses, for one publisher, a shift a day."""
    days = max(wave.size // 250, 1)
    time = wave.start + rng.integers(0, days, wave.size) * DAY + (rng.uniform(1, 9, wave.size) * HOUR).astype(np.int64)
    sites = _sites_of(people, rng.choice(people.publisher))
    return clicks_of(
        "click_farm",
        time,
        ip=wave.new_ip + rng.integers(0, 2, wave.size),
        device=wave.new_device + rng.integers(0, 40, wave.size) + 40 * ((time - wave.start) // DAY),
        browser=rng.choice([0, WEBVIEW], wave.size),
        country=9,
        site=rng.choice(sites, wave.size),
        ad=rng.choice(len(people.ad_share), wave.size, p=people.ad_share),
        delay=rng.lognormal(0.9, 0.45, wave.size),
    )


def scripted_bot(rng: np.random.Generator, people: TrafficPopulation, wave: Wave) -> Clicks:
    """A script that clicks every few minutes, with jitter, at all hours, from rented machines with changing devices."""
    machines = max(wave.size // 150, 1)
    machine = np.arange(wave.size) % machines
    period = rng.uniform(120, 600, machines)
    turn = np.arange(wave.size) // machines
    seconds = turn * period[machine] * rng.uniform(0.75, 1.25, wave.size)
    return clicks_of(
        "scripted_bot",
        wave.start + (seconds * SECOND).astype(np.int64),
        ip=wave.new_ip + machine,
        device=wave.new_device + machine * 50 + turn // 25,
        browser=rng.choice([0, 2], wave.size),
        country=rng.choice([6, 8], wave.size),
        site=rng.choice(len(people.site_share), 8)[rng.integers(0, 8, wave.size)],
        ad=rng.choice(len(people.ad_share), wave.size, p=people.ad_share),
        delay=rng.uniform(0.8, 4.0, wave.size),
    )


def click_injection(rng: np.random.Generator, people: TrafficPopulation, wave: Wave) -> Clicks:
    """An app that clicks its own ads as they are shown, on phones of honest users at their usual hours."""
    owner = rng.choice(people.users, wave.size, p=people.activity)
    sites = _sites_of(people, rng.choice(people.publisher))[:2]
    time = people.times(rng, people.country[owner])
    first = (wave.start - people.start) // DAY
    return clicks_of(
        "click_injection",
        # All within twelve days of the start.
        people.start + (first + (time - people.start) // DAY % 12) * DAY + (time - people.start) % DAY,
        ip=people.ip[owner],
        device=owner,
        browser=WEBVIEW,
        country=people.country[owner],
        site=rng.choice(sites, wave.size),
        ad=rng.choice(len(people.ad_share), wave.size, p=people.ad_share),
        delay=rng.lognormal(-1.0, 0.5, wave.size),
    )


def hijacked_device(rng: np.random.Generator, people: TrafficPopulation, wave: Wave) -> Clicks:
    """Devices of sleeping users, remotely controlled: some clicks each between two and five, seldom an impression."""
    hosts = rng.choice(people.users, max(wave.size // 8, 1), replace=False)
    owner = rng.choice(hosts, wave.size)
    night = rng.integers(0, 5, wave.size)
    asleep = (rng.uniform(2, 5, wave.size) * HOUR).astype(np.int64)
    local_midnight = (wave.start // DAY + night) * DAY - np.array([1, 1, 1, 1, 1, 1, -5, -3, 5, 7])[
        people.country[owner]
    ] * HOUR
    sites = rng.choice(len(people.site_share), 6)
    return clicks_of(
        "hijacked_device",
        local_midnight + asleep,
        ip=people.ip[owner],
        device=owner,
        browser=people.browser[owner],
        country=people.country[owner],
        site=rng.choice(sites, wave.size),
        ad=rng.choice(len(people.ad_share), wave.size, p=people.ad_share),
        delay=np.where(rng.random(wave.size) < 0.3, human_delay(rng, wave.size), np.nan),
    )


def ad_stacking(rng: np.random.Generator, people: TrafficPopulation, wave: Wave) -> Clicks:
    """A publisher that lays ads over each other: one touch of an honest user clicks three to six of them."""
    touches = max(wave.size // 4, 1)
    owner = rng.choice(people.users, touches, p=people.activity)
    time = wave.start + (people.times(rng, people.country[owner]) - people.start) % (10 * DAY)
    each = rng.integers(3, 7, touches)
    owner, time, delay = (np.repeat(column, each) for column in (owner, time, rng.lognormal(1.8, 0.9, touches)))
    sites = _sites_of(people, rng.choice(people.publisher))[:3]
    touched = np.repeat(rng.choice(sites, touches), each)
    return clicks_of(
        "ad_stacking",
        spread(rng, time, 0.06),
        ip=people.ip[owner],
        device=owner,
        browser=people.browser[owner],
        country=people.country[owner],
        site=touched,
        ad=rng.choice(len(people.ad_share), len(owner), p=people.ad_share),
        delay=delay,
    )


def competitor(rng: np.random.Generator, people: TrafficPopulation, wave: Wave) -> Clicks:
    """A competitor who clicks one advertiser's ads, from rotating addresses and ever new devices, for a few hours."""
    advertiser = rng.choice(people.advertiser)
    ads = np.flatnonzero(people.advertiser == advertiser)
    hours = max(wave.size / 120, 1.0)
    return clicks_of(
        "competitor",
        wave.start + (rng.uniform(0, hours, wave.size) * HOUR).astype(np.int64),
        ip=0xB9000000 + wave.number * 4_096 + rng.integers(0, 150, wave.size),
        device=wave.new_device + np.arange(wave.size) // 2,
        browser=rng.choice([2, 3, 5], wave.size),
        country=rng.choice([0, 5], wave.size),
        site=rng.choice(len(people.site_share), wave.size, p=people.site_share),
        ad=rng.choice(ads, wave.size),
        delay=np.where(rng.random(wave.size) < 0.5, human_delay(rng, wave.size), np.nan),
    )


#: Each kind, and how many clicks one wave of it has, about.
FRAUDS: dict[str, tuple[Callable[[np.random.Generator, TrafficPopulation, Wave], Clicks], int]] = {
    "click_farm": (click_farm, 700),
    "scripted_bot": (scripted_bot, 500),
    "click_injection": (click_injection, 400),
    "hijacked_device": (hijacked_device, 250),
    "ad_stacking": (ad_stacking, 400),
    "competitor": (competitor, 400),
}
#: The kind that nobody has seen before the last month.
NEWCOMER = "competitor"


def _sites_of(people: TrafficPopulation, publisher: int) -> Ints:
    return np.flatnonzero(people.publisher == publisher)
