#!/bin/sh
# Jamf, extension attribute (data type String): one word, then what qs-certs found.
# Make smart groups with "like" and the word.
#
# compliant        every root file is as it should be
# install-needed   `qs-certs install` would help
# person-needed    a person has to look
# could-not-tell   something could not be read; try again
# tampered         a fingerprint is wrong: stop and ask
# failed           qs-certs itself failed
# not-installed    there is no qs-certs
#
# Exit code: 0 always.  Jamf takes what stands between <result> and </result>.

# --- the same in every script of this folder ------------------------------------------------------

# Agents start scripts with a short PATH.  Root runs only a program that is root's, in a folder that
# is: Homebrew, for one, gives its folders to whoever installed it.
find_program() {
    for program in "$(command -v qs-certs)" /usr/local/bin/qs-certs /opt/homebrew/bin/qs-certs \
        "${HOME:-}/.local/bin/qs-certs"; do
        [ -x "$program" ] || continue
        [ "$(id -u)" -ne 0 ] || [ -z "$(strangers "$program" "${program%/*}")" ] || continue
        return 0
    done
    echo "qs-certs is not installed"
    return 127
}

strangers() {
    find -L "$@" -prune \( ! -user 0 -o -perm -0002 \) 2>&1
}

# Root works on all accounts, anybody else on their own.
everybody() {
    [ "$(id -u)" -ne 0 ] || printf '%s\n' --all-users
}

# --------------------------------------------------------------------------------------------------

state=not-installed said=
if find_program >/dev/null; then
    accounts=$(everybody)
    said=$("$program" check --format intune ${accounts:+"$accounts"} 2>/dev/null)
    case $? in
    0) state=compliant ;;
    1) state=install-needed ;;
    3) state=person-needed ;;
    4) state=could-not-tell ;;
    5) state=tampered ;;
    *) state=failed ;;
    esac
fi
# What a certificate calls itself must not end the element.
printf '<result>%s</result>\n' "$(printf '%s' "$state${said:+ $said}" | tr '<>&' '   ')"
