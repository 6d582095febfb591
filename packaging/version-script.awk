# Makes the linker's version script from packaging/libringmsg0.symbols, whose lines name each
# function, the symbol version that it has, and the release that added it.
/^ ringmsg_/ {
    split($1, part, "@")
    if (!(part[2] in functions)) order[++versions] = part[2]
    functions[part[2]] = functions[part[2]] " " part[1] ";"
}
END {
    for (i = 1; i <= versions; i++)
        print order[i] " { global:" functions[order[i]] (i == 1 ? " local: *;" : "") " }" (i > 1 ? " " order[i - 1] : "") ";"
}
