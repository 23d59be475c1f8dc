# The main job, in five commands. Run it with `make demo`.
set -u
job_harness() {
  printf '\n$ job-harness %s\n' "$*"
  "$BIN/job-harness" "$@"
}
expect() { # expect CODE MESSAGE
  [ "$code" -eq "$1" ] && return
  echo "demo: $2 (exit code $code, expected $1)" >&2
  exit 1
}

echo "1. Over a hundred scenarios, one set of invariants, two engines: a model in memory, and our queue on a real PostgreSQL."
job_harness run scenarios --engine memory,postgres --quiet
code=$?
expect 0 "a scenario failed"

echo
echo "2. A contradiction in the settings: jobs may run for 10 minutes, and maintenance takes them back after 5."
echo "   No test was written for it; the generic workload is explored, and the first failure is shrunk."
mkdir -p "$(dirname "$FLAGSHIP")"
job_harness explore memory --set stuck_timeout=5m --looking-for concurrent_execution --save "$FLAGSHIP" --replay-on postgres
code=$?
expect 1 "the explorer found nothing"

echo
echo "3. What it wrote is a scenario like any other. It fails on a real PostgreSQL too..."
job_harness run "$FLAGSHIP" --engine postgres --quiet
code=$?
expect 1 "the scenario did not fail on PostgreSQL"

echo
echo "4. ...and passes once the setting is repaired."
job_harness run "$FLAGSHIP" --engine memory,postgres --set stuck_timeout=30m
code=$?
expect 0 "the repaired setting did not pass"
