"""The work of members that must reach each other, as a function of the agent's code."""

#: The first rank listens, the second connects; each gets the sum of both numbers.
MEET = """
import os, socket, time

def meet(job):
    port, mine = int(os.environ["MASTER_PORT"]), job.rank + 1
    if job.rank == 0:
        with socket.create_server(("", port)) as server:
            peer = server.accept()[0]
            total = mine + int(peer.recv(10))
            peer.sendall(b"%d" % total)
    else:
        peer = connected((os.environ["MASTER_ADDR"], port))
        peer.sendall(b"%d" % mine)
        total = int(peer.recv(10))
    job.log(total=total, ranks=job.world_size)
    if job.args.get("fails") == job.rank:
        raise ValueError("this rank gives up")
    if job.args.get("fails") is not None:
        time.sleep(60)
    (job.outputs["model"].path / "total").write_text(str(total))

def connected(where):
    for _ in range(600):
        try:
            return socket.create_connection(where, timeout=20)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise TimeoutError(where)
"""
