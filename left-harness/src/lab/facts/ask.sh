# What this machine is and has, one `key=value` a line. $1: the harness's folder.
# Any POSIX sh will do, busybox's too.
LC_ALL=C; export LC_ALL
PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin"
say() { printf '%s=%s\n' "$1" "$2"; }

say system "$(uname -s)"
say kernel "$(uname -r)"
say arch "$(uname -m)"
say uid "$(id -u)"
say user "$(id -un)"
say home "$HOME"
say now "$(date +%s.%N)"
if [ -r /etc/os-release ]; then
  while IFS='=' read -r key value; do
    case $key in ID | ID_LIKE) say os "$value" ;; esac
  done </etc/os-release
fi

for name in tc nft strace ssh sshd dropbear unshare; do
  where=$(command -v "$name") && say "has_$name" "$where"
done
[ -r /proc/self/stat ] && say proc yes
[ -c /dev/net/tun ] && say tun yes

modules="/lib/modules/$(uname -r)"
for list in "$modules/modules.dep" "$modules/modules.builtin" /proc/modules; do
  [ -r "$list" ] && grep -q sch_netem "$list" 2>/dev/null && say netem yes && break
done
unshare --user --map-root-user true 2>/dev/null && say userns yes
[ "$(id -u)" != 0 ] && sudo -n true >/dev/null 2>&1 && say sudo yes

while read -r device mount kind options rest; do
  [ "$kind" = cgroup2 ] && say cgroup2 "$mount"
done 2>/dev/null </proc/self/mounts

folder=$1
case $folder in '~') folder=$HOME ;; '~/'*) folder=$HOME/${folder#'~/'} ;; esac
say folder "$folder"
[ -e "$folder" ] && say folder_is there
[ -e "$folder/.left-harness-folder" ] && say marker yes
# It may still have to be made; the file system is that of what is there.
while [ ! -d "$folder" ] && [ "$folder" != / ]; do
  case $folder in */*) folder=${folder%/*} ;; *) folder=. ;; esac
  [ -n "$folder" ] || folder=/
done
[ -w "$folder" ] && say writable yes
df -Pk "$folder" 2>/dev/null | {
  read -r head
  read -r device blocks used free share mount
  say free_kib "$free"
  while read -r device at kind options rest; do
    [ "$at" = "$mount" ] && say mount_options "$options"
  done 2>/dev/null </proc/self/mounts
}
say end yes
