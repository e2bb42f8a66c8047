# Removes a folder once the process that wants it is no more, and the servers in it have ended.
#
#   sh -c "$(this)" folder_guard FOLDER
#
# Standard input as in keeper.sh. FOLDER/lock is what keeper.sh keeps locked; a server that has not ended after
# two minutes loses its files all the same.
exec 9<"$1/lock" >/dev/null 2>&1 || exit 70
read -r _
flock -x -w 120 9
rm -rf "$1"
