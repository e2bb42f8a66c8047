# Runs a command that must not outlive the process that wants it.
#
#   sh -c "$(this)" keeper SIGNAL GRACE_SECONDS LOG LOCK COMMAND ARGUMENT …
#
# Standard input is a pipe from that process. When its other end closes, because the process closed it or is no
# more, however it ended, the command gets SIGNAL and, GRACE_SECONDS later, SIGKILL. The first line of standard
# output is the command's process id. The exit code is the command's.
#
# LOCK is a file that stays locked (shared) as long as any process of the command lives; see folder_guard.sh.
stop=$1 grace=$2 log=$3 lock=$4
shift 4
exec 3<&0 </dev/null 9<"$lock" || exit 70
flock -s 9
"$@" 3<&- >>"$log" 2>&1 &
child=$!
echo "$child"
exec >/dev/null 2>&1
{
    read -r _ <&3
    kill -s "$stop" "$child"
    while [ "$grace" -gt 0 ] && kill -0 "$child"; do
        sleep 1
        grace=$((grace - 1))
    done
    kill -s KILL "$child"
} 9<&- &
watcher=$!
exec 3<&-
wait "$child"
code=$?
kill -s KILL "$watcher"
exit "$code"
