"""The demo: a real digit-recognition agent, its DAG, and the command that runs it end to end.

``digits.py`` is the DAG and ``digits_agent.py`` the agent's code, both as a user writes
them. ``python -m airflow_dla.demo`` sets up an Airflow home of its own (`home`), runs
the DAG in it (`run`) while saying how it goes (`progress`), and reports what came of it
(`report`). Nothing outside that home is read or written.
"""
