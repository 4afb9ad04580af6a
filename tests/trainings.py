"""Work that takes its time, as a function of the agent's code."""

#: Goes on from its checkpoint, and says where it began; adds up its numbers, if it was given any.
STEPS = """
import time
def main(job):
    old = job.checkpoint.load()
    step = int((old / "step").read_text()) if old else 0
    print("from", step, flush=True)
    while step < job.args["steps"]:
        step += 1
        time.sleep(0.05)
        job.checkpoint.save(lambda folder: (folder / "step").write_text(str(step)))
        job.log(step=step, loss=1.0 / step)
        if job.stopping:
            print("to", step, flush=True)
            return
    if "train" in job.inputs:
        numbers = (job.inputs["train"].path / "numbers.csv").read_text().split()
        job.log(step=step, total=sum(map(int, numbers)))
    (job.outputs["model"].path / "steps").write_text(str(step))
"""
