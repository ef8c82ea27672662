"""What `rr-bench db --scene` runs: so many queries under way, every answer checked; counted, and told at the end in a file."""

import json
import os
import time

import redrabbit

OUTSTANDING = int(float(os.environ["RR_BENCH_OUTSTANDING"]))
ROWS = int(float(os.environ["RR_BENCH_ROWS"]))
BATCH = int(float(os.environ["RR_BENCH_BATCH"]))
WORKLOAD = os.environ["RR_BENCH_WORKLOAD"]
BEGINS = time.perf_counter_ns() + int(float(os.environ["RR_BENCH_WARMUP"]) * 1e9)
ENDS = BEGINS + int(float(os.environ["RR_BENCH_DURATION"]) * 1e9)
BATCHES = 2  # insert: one runs, one waits behind it, as with the actor in C
counted = 0
inserted = 0
microseconds = []


def numbers(seed):
    while True:
        seed = seed * 6364136223846793005 + 1442695040888963407 & 0xFFFFFFFFFFFFFFFF
        yield (seed >> 33) % ROWS


def count(asked, units):
    global counted
    now = time.perf_counter_ns()
    if BEGINS <= now < ENDS:
        counted += units
        microseconds.append((now - asked) // 1000)
    return now < ENDS


async def select(db, worker):
    for number in numbers(worker):
        asked = time.perf_counter_ns()
        rows = await db.query("SELECT id, name, score FROM rr_bench WHERE id = ?", (number,))
        if rows != [(number, f"player-{number:08d}", number * 2654435761 % 1000003)]:
            raise ValueError(f"row {number} came back as {rows}")
        if not count(asked, 1):
            return


async def get(redis, worker):
    for number in numbers(worker):
        asked = time.perf_counter_ns()
        value = await redis.get(f"rr:{number:012d}")
        if value != f"player-{number:08d}":
            raise ValueError(f"key {number} came back as {value!r}")
        if not count(asked, 1):
            return


async def insert(db, worker):
    global inserted
    if worker >= BATCHES:
        return
    while True:
        asked = time.perf_counter_ns()
        rows = [(n, f"player-{n:08d}", n * 2654435761 % 1000003) for n in range(inserted, inserted + BATCH)]
        inserted += BATCH
        await db.batch("INSERT INTO rr_bench_log (id, name, score) VALUES (?, ?, ?)", rows)
        if not count(asked, BATCH):
            return


async def check_inserted(db):
    if await db.value("SELECT count(DISTINCT id) FROM rr_bench_log") != inserted:
        raise ValueError(f"of {inserted} rows not each is there")


async def measure():
    told = {"seconds": (ENDS - BEGINS) / 1e9}
    try:
        db = await redrabbit.database("db@0")
        work = {"select": select, "get": get, "insert": insert}[WORKLOAD]
        if WORKLOAD == "insert":
            await db.query("DELETE FROM rr_bench_log")
        for task in [redrabbit.spawn(work(db, worker)) for worker in range(OUTSTANDING)]:
            await task
        if WORKLOAD == "insert":
            await check_inserted(db)
    except Exception as error:
        told["failure"] = f"{type(error).__name__}: {error}"
    with open(os.environ["RR_BENCH_TOLD"], "w", encoding="utf-8") as file:
        json.dump({**told, "counted": counted, "microseconds": microseconds}, file)
    print("rr-bench db: done", flush=True)


redrabbit.after(0, measure)
