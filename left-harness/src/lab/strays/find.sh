# Processes of runs whose program or folder lies below $1, as `PID START RUN`.
# Given `PID START RUN` as $2 $3 $4: kills that one if it is still itself.
LC_ALL=C; export LC_ALL
home=$1

# Of a process: when it started, and the run it belongs to.
of() {
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The name may hold spaces and brackets; what follows the last one does not.
  set -- "$1" ${stat##*) }
  shift 20
  start=$1
}
run_of() { tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | sed -n 's/^LEFT_HARNESS_RUN=//p'; }
is_ours() {
  for link in exe cwd; do
    case $(readlink "/proc/$1/$link" 2>/dev/null) in "$home"/*) return 0 ;; esac
  done
  return 1
}

if [ $# -gt 1 ]; then
  of "$2" && [ "$start" = "$3" ] && [ "$(run_of "$2")" = "$4" ] && is_ours "$2" && kill -9 "$2"
  exit 0
fi
for file in $(grep -l LEFT_HARNESS_RUN= /proc/[0-9]*/environ 2>/dev/null); do
  pid=${file#/proc/}; pid=${pid%/environ}
  is_ours "$pid" && of "$pid" && printf '%s %s %s\n' "$pid" "$start" "$(run_of "$pid")"
done
exit 0
