#!/bin/sh
# Puts the root certificate into the root files of this machine: as root, of every account;
# otherwise, of the user who runs it.  Running it again changes nothing.
#
# Intune, macOS shell script   as root or as the signed-in user.  0 is success; anything else is a
#                              failure, tried again as often as the policy says.
# Jamf, policy                 0 is success.  Parameters 4 to 11 are options of `qs-certs install`,
#                              one word in each, such as --offline.
# Munki, postinstall_script    0 is success; anything else is tried again at Munki's next run.
# By hand                      options of `qs-certs install` come after three words, as from Jamf:
#                              sh install.sh / "$(hostname)" "$USER" --offline
#
# Exit code: that of `qs-certs install`; 127 where there is no qs-certs.

# --- the same in every script of this folder ------------------------------------------------------

# Agents start scripts with a short PATH.  Root runs only a program that nobody else can change: it,
# what a link leads to, its interpreter and every folder above them are root's, and writable by root
# alone.  Homebrew, for one, gives its folders to whoever installed it.
find_program() {
    for program in "$(command -v qs-certs)" /usr/local/bin/qs-certs /opt/homebrew/bin/qs-certs \
        "${HOME:-}/.local/bin/qs-certs"; do
        [ -x "$program" ] || continue
        [ "$(id -u)" -ne 0 ] || [ -z "$(strangers "$program")" ] || continue
        return 0
    done
    echo "qs-certs is not installed"
    return 127
}

# What somebody else than root can change, of all that decides what a program does.
strangers() {
    changeable "$1"
    line=$(head -n 1 "$1" | tr -d '\000')
    case $line in
    '#!'*)
        line=${line#??}
        line=${line# }
        changeable "${line%% *}"
        ;;
    *) return ;;
    esac
    case $line in
    */env\ *) # looks on PATH
        line=${line#*/env }
        changeable "$(command -v "${line%% *}")"
        ;;
    *) ;;
    esac
    # What installers write where the path is too long for the first line, or holds a space.
    line=$(sed -n "2s/^'''exec' //p" "$1")
    case $line in
    '') ;;
    \"*)
        line=${line#?}
        changeable "${line%%\"*}"
        ;;
    \'*)
        line=${line#?}
        changeable "${line%%\'*}"
        ;;
    *) changeable "${line%% *}" ;;
    esac
}

changeable() {
    place=$1
    while :; do
        folder=$(CDPATH='' cd -P "${place%/*}/" && pwd -P) || echo "$place"
        above=$folder
        while [ -n "$above" ]; do
            writable "$above"
            above=${above%/*}
        done
        [ -h "$place" ] || break
        link=$(readlink "$place")
        case $link in
        /*) place=$link ;;
        *) place=$folder/$link ;;
        esac
    done
    writable "$place"
}

# In a sticky folder, such as /tmp, nobody replaces what is root's.
writable() {
    find "$1" -prune \( ! -user 0 -o \( -perm -0002 -o -perm -0020 ! -group 0 \) \
        ! \( -type d -perm -1000 \) \) 2>&1
}

# Root works on all accounts, anybody else on their own.
everybody() {
    [ "$(id -u)" -ne 0 ] || printf '%s\n' --all-users
}

# --------------------------------------------------------------------------------------------------

# Jamf: mount point, computer name, user name; then parameters, empty where nobody filled them in.
if [ "$#" -ge 3 ]; then
    shift 3
fi
for option; do
    shift
    [ -z "$option" ] || set -- "$@" "$option"
done
# Intune and Munki pass nothing: options for them go here, as in `set -- --offline`.
[ "$#" -gt 0 ] || set --

find_program >&2 || exit
case " $* " in
*" --user"* | *" --target"*) accounts= ;; # the options say whose
*) accounts=$(everybody) ;;
esac
exec "$program" install ${accounts:+"$accounts"} "$@"
