# zsh-lists.zsh SCRIPT LINE: what an interactive zsh that has sourced the script lists for the line
zmodload zsh/zpty
zpty z "stty cols 200 rows 200; TERM=dumb exec zsh -f -i"
zpty -w z "PS1=; unsetopt zle; LISTMAX=1000; autoload -U compinit && compinit -u -D && source $1; setopt zle; print begun'-'1"
# The line editor is ready when it has turned bracketed paste on; before it, Ctrl-D would end the input.
zpty -r z seen $'*begun-1*2004h*'
zpty -n -w z "$2"$'\C-d'
zpty -n -w z $'\C-u'"print ended'-'1"$'\n'
zpty -r z seen '*ended-1*'
zpty -d z
print -r -- $seen
