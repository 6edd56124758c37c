"""Small talk: greetings, thanks, moods, likes and the other openings that people type to an assistant.

The phrasings are our own, made from patterns and lists of words, or, with `people`, also real people's: short
utterances of the chitchat-dataset package (MIT), sorted into the same kinds by what the whole utterance says. Some kinds
have a content, such as a name or a food, that the answer has to repeat as the user typed it.

A row's key is its wording without case, punctuation, greetings and repeats, so that two spellings of one wording fall
into one split. Of our own phrasings with a content, form and content are split too: test asks in unseen forms about
unseen words.
"""

# ruff: noqa: SIM905, E501 - lists of words and patterns are read more easily as text, a line a group
from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rstr import Rstr

from zero2chat.errors import UserError
from zero2chat.introductions import forms as expand
from zero2chat.runs import write_atomically
from zero2chat.tasks import Message, Row, as_typed, ask, blends, draw, in_split, known
from zero2chat.world import FIRST_NAMES, JOBS

SHARES = (0.6, 0.1, 0.3)
STYLES = ("worked",)
_MOST_WORDS = 30  # of an answer
_SURFACES = 4  # spellings of one wording that become rows, at most
_LONGEST_PAGE = 1000  # characters of a conversation that becomes a page
_FEWEST_LINES = 4  # below which it is left out

# ---- words that fill the forms

_NAMES = (
    *FIRST_NAMES,
    *"""
Sam Kim Alex Anna Ben Carla Chris Dan David Emma Eric Eva Frank George Grace Hannah Harry Ian Jack James Jane Jim Joe
John Julia Kate Kevin Laura Leo Lily Linda Lucy Luke Maria Mark Martin Mary Matt Max Mia Michael Mike Nick Nina Noah
Olivia Oscar Paul Peter Rachel Robert Rosa Ruth Ryan Sara Sarah Simon Sophie Steve Susan Tim Tina Tom Tony Will Zoe Ali
Amir Ana Andre Aisha Carlos Chen Diego Elena Fatima Hiro Ivan Jin Kofi Lena Li Lars Mei Mohamed Nadine Omar Pablo Priya
Raj Sofia Tariq Uma Wei Yara Yuki Adam Amy Andrew Ashley Austin Becca Bella Blake Brad Brandon Brian Caleb Cameron
Charles Cody Cole Connor Daniel Dave Emily Ethan Hailey Hayden Heather Jacob Jason Jenny Jessica Jordan Josh Justin
Karen Katie Kimberly Kyle Lauren Liam Logan Madison Megan Melissa Naomi Natalie Nathan Nicole Patrick Rebecca Sean
Shelby Spencer Stephanie Taylor Thomas Tyler Whitney Zach
""".split(),
)
_GOOD = """
happy excited proud relieved grateful hopeful calm relaxed lucky thrilled cheerful content delighted thankful
pleased joyful blessed stoked pumped inspired motivated amused confident optimistic refreshed impressed rested
satisfied energetic peaceful comfortable flattered touched fascinated ecstatic overjoyed intrigued hyped
""".split()
_BAD = """
tired sad bored sick hungry thirsty stressed lonely nervous worried anxious scared afraid angry upset exhausted sleepy
cold confused frustrated depressed disappointed homesick lost ill mad jealous embarrassed annoyed overwhelmed miserable
unhappy unwell heartbroken stuck desperate gloomy hurt discouraged unsure restless terrified broke freezing drained
starving grumpy stumped heartsick clueless sore ashamed bummed
""".split()
_THINGS = """
pizza|tea|coffee|music|football|books|dogs|cats|rain|snow|summer|winter|the sea|the mountains|swimming|running|dancing
singing|painting|old films|jazz|apples|chocolate|ice cream|bread|cheese|tomatoes|soup|rice|noodles|sushi|pancakes
strawberries|flowers|trees|birds|horses|trains|bicycles|cars|boats|chess|card games|puzzles|video games|board games
poetry|history|maths|science|languages|cooking|baking|gardening|hiking|fishing|camping|skiing|tennis|basketball|yoga
long walks|quiet evenings|sunny days|the forest|the piano|the guitar|violins|drums|rock music|folk songs|stories
fairy tales|comics|drawing|knitting|photography|travelling|museums|old castles|big cities|small villages|rivers|lakes
stars|the moon|clouds|autumn leaves|warm socks|candles|hot chocolate|lemonade|orange juice|cookies|cakes|honey
peanut butter|tacos|burgers|salad|olives|mushrooms|garlic|cherries|bananas|grapes|elephants|penguins|foxes|owls|bees
butterflies|turtles|robots|computers|maps|riddles|jokes|letters|postcards|markets|picnics|parties|birthdays|weddings
early mornings|Mondays|Fridays|weekends|loud noises|traffic|spiders|homework|cold water|spicy food
""".replace("\n", "|").strip("|")
_DOINGS = """
going to the {beach|park|zoo|theatre|cinema|museum|lake|market|library|gym|mountains|city|concert|fair|opera|river}
going to a {party|concert|wedding|picnic|dance|game|festival|show|play|museum}
{reading|writing} {a book|a letter|a poem|a story|an old novel|a long letter|a short story}
{watching|enjoying} {a film|a game|a show|the news|the stars|a play|the match|the sunset|the birds}
{baking|making|cooking|eating} {bread|a cake|soup|pancakes|dinner|lunch|breakfast|a pie|pasta|some noodles}
playing {chess|cards|football|tennis|a game|the piano|the guitar|the violin|golf|basketball}
{learning|studying} {French|German|Spanish|chemistry|biology|history|law|physics|maths|music|Latin|art}
listening to {music|the radio|jazz|a podcast|a song|some records|an opera}
going {hiking|swimming|camping|fishing|running|dancing|skiing|sailing|cycling|shopping|climbing|surfing}
drinking {tea|coffee|hot chocolate|lemonade|some juice|a cold drink|green tea}
planning {a trip|a party|a wedding|a long walk|a holiday|a picnic}
"""
_PLACES = """
Paris|London|Texas|Spain|Canada|Mexico|Brazil|Italy|Japan|Berlin|Madrid|Rome|Oslo|Vienna|Dublin|Chicago|New York|Boston
California|Ohio|Florida|Scotland|Ireland|Kenya|Nigeria|India|China|Korea|Peru|Chile|Norway|Sweden|Poland|Greece|Turkey
Egypt|Ghana|Vietnam|Australia|New Zealand|Hawaii|Alaska|Lisbon|Prague|Warsaw|Athens|Cairo|Lagos|Delhi|Tokyo|Seoul
a small town|a big city|a village|the mountains|the countryside|the north|the south|Montreal|Toronto|Seattle|Denver
Kansas|Nevada|Utah|Oregon|Iowa|South Carolina|Puerto Rico|Zurich|Geneva|Hamburg|Munich|Lyon|Naples|Porto|Krakow
""".replace("\n", "|").strip("|")
_MORE_JOBS = """
student driver chef cook artist writer lawyer programmer designer manager scientist waiter barber banker builder
cleaner clerk coach dancer actor police officer fire fighter|bus driver|truck driver|bike courier|web designer|history
teacher|math student|art student|school principal|vet|secretary|photographer|journalist
""".replace("\n", " ")
_TITLES = (
    *(("an " if job[0] in "aeiou" else "a ") + job for job in JOBS),
    *"""
a student|a driver|a chef|a cook|an artist|a writer|a programmer|a designer|a manager|a scientist|a waiter|a barber
a banker|a builder|a cleaner|a clerk|a coach|a dancer|an actor|a police officer|a fire fighter|a bus driver|a freshman
a truck driver|a web designer|a history teacher|an art student|a vet|a secretary|a photographer|a journalist|a parent
an architect|an accountant|a biologist|a chemist|a translator|a tour guide|a grandfather|a grandmother|a beginner
""".strip()
    .replace("\n", "|")
    .split("|"),
)
_MATTERS = """
movie|film|book|song|color|food|animal|game|band|sport|season|place|country|city|day|number|word|drink|fruit|dessert
subject|poem|writer|singer|flower|bird|holiday|joke|story|dish|smell|month|letter|planet|tree|hobby|team|show|actor
board game|video game|ice cream|pizza topping|kind of music|time of day|musical|instrument|superhero|language|snack
""".replace("\n", "|").strip("|")


# ---- kinds: what is asked, in our words and in people's, and what is answered


@dataclass(frozen=True)
class _Kind:
    """One intent.

    `ours` are patterns as in `introductions`, `*` for a content. `people` is a regular expression over an utterance's
    plain words, its group the content; training asks in more wordings drawn from it. `core` is what an answer says in this kind and in no other; where there is a
    content, it comes straight after the core.
    """

    ours: str
    words: tuple[str, ...]
    people: str
    core: str
    demonstrations: tuple[str, ...]
    led: bool = False  # whether our forms may follow a greeting


def _w(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


_HELLO = r"(?:hi|hello|helo|hey|heya|hiya|yo|howdy|greetings|hola|hullo|heyo|hallo|aloha|hallo|ello|hai|salutations)"
_SO = (
    r"(?:so|very|really|pretty|quite|just|super|too|way|actually|totally|such|still|also|a bit|a little|kinda|kind of)"
)
_TIME = r"(?:today|tonight|now|right now|this \w+|this \w+ \w+|so far|lately|these days)"
_FINE = (
    r"(?:good|well|great|fine|ok|okay|alright|all right|fantastic|wonderful|awesome|excellent|swell|not bad|not too bad"
    r"|pretty good|decent|dandy|amazing|better)"
)
_SELF = (
    r"(?:human|person|people|bot|robot|computer|machine|ai|program|chatbot|chat bot|real|human being|artificial"
    r" intelligence|android|cyborg|siri|alexa|ghost|alien|alive|cleverbot|language model|droid|algorithm)"
)
_NICE = (
    r"(?:awesome|great|amazing|funny|nice|smart|cool|sweet|kind|wonderful|the best|hilarious|fun|clever|brilliant|cute"
    r"|adorable|helpful|genius|legend|good|fantastic|witty|wise|interesting|talented|lovely|impressive|creative|hero"
    r"|champ|gem|poetic|punny|friendly|thoughtful|intelligent|incredible|perfect|beautiful|right|correct|angel)"
)
_NASTY = (
    r"(?:stupid|dumb|weird|annoying|boring|rude|mean|useless|slow|wrong|bad|crazy|confusing|strange|creepy|terrible|awful"
    r"|silly|ridiculous|lame|odd|repetitive|random|lazy|broken|frustrating|awkward|unhelpful|the worst|insane|liar"
    r"|horrible|hopeless|a joke|not helpful|not nice|not funny|not listening|not helping|not smart|not right|mistaken"
    r"|not making (?:any |much )?sense|not answering(?: me| my questions?)?|confused|idiot)"
)
_FUN = (
    r"(?:cool|awesome|nice|sweet|great|amazing|wonderful|fantastic|neat|interesting|impressive|dope|lit|rad|perfect|fun"
    r"|good|exciting|incredible|brilliant|beautiful|fascinating|excellent|lovely|cute|clever|creative|adorable|genius"
    r"|legit|tight|epic|delicious|super|fabulous|marvelous|magnificent|splendid|delightful|sick|solid|helpful)"
)
_LAUGH = (
    r"(?:(?:b|m|w)?a?(?:h+a+)+h*|(?:h+e+){2,}h*|(?:l+o+)+l+z*|lmf?ao+|rofl|x+d+|(?:ja){2,}|ha|hah|heh|lols|teehee"
    r"|laugh(?:ing)? out loud)"
)
_YES = (
    r"(?:yes|yeah|yea|yep|yup|ye|ya|yah|yas|no|nope|nah|na|ok|okay|okey|k|kk|sure|alright|all right|right|true|exactly"
    r"|indeed|same|agreed|definitely|absolutely|totally|probably|maybe|possibly|perhaps|certainly|obviously|fine|correct"
    r"|mhm|mm|hm+|uh huh|ah|oh|aha|oh well|well|i see|i know|i agree|i guess|of course|for sure|got it|gotcha|sure thing"
    r"|fair|fair enough|makes sense|no way|not really|not sure|not yet|not at all|me too|me neither|me either|same here"
    r"|i think so|i do not think so|i do not know|i am not sure|idk|i hope so|i bet|i suppose|right on|roger|word|amen"
    r"|good point|good to know|no idea|i have no idea|i have no clue|never mind|nevermind|whatever|anyway|anyways)"
)
_AND_YOU = r"(?:what about|how about|how bout|and) (?:you|yourself)|how are you(?: doing)?|wbu|hbu"
_KINDS = {
    "greeting": _Kind(
        ours="""
{Hello|Hi|Hey|Hiya|Howdy|Greetings|Hi hi|Hello hello|Hey hey|Yo|Oh, hi|Oh, hello|Well, hello}{| there| Zero| again| you}!
{Hello|Hi|Hey}{, friend| my friend|, robot|, assistant|, computer|, little model| everyone| to you|, dear Zero}.
{Just saying|I just wanted to say|I only wanted to say|I am here to say} {hello|hi}.
{Hello|Hi|Hey}, {it is me|here I am|I am new here|I am back|I am here again}.
""",
        words=(),
        people=rf"(?:well )?{_HELLO}(?: (?:there|again|friend|friends|my friend|everyone|everybody|all|world|you|stranger|buddy"
        rf"|pal|zero|to you|guys|fellow human|fellow|person|human|person|mate|man|dude|{_HELLO}))*|hello from .+"
        r"|(?:just )?(?:saying|wanted to say) (?:hi|hello)|(?:hi|hello|hey) (?:i am|it is|its) (?:me|here|back|me again)"
        r"|i am (?:back|here)(?: now| again)?",
        core=r"\b(?:hello|hi|hey|welcome)(?: there)?[!.] (?:how can|how may|what can|what would|what shall)\b",
        demonstrations=(
            "Hello! How can I help you?",
            "Hello! What can I do for you?",
            "Hi there! How can I help you?",
        ),
    ),
    "day_greeting": _Kind(
        ours="""
{Good|A good|A very good|Hi, good|Hello, good|Hey, good|Hello and good} *!
Good *{, Zero|, my friend| to you| there| everyone|, assistant|, computer|, and hello}.
{I wish you a|Have a|Wishing you a} {good|very good|lovely|nice} *, {Zero|friend|hello again}!
Good *! {I am up early|It is cold here|The sun is out|It is raining here|I am back|Let us start|Here I am}.
""",
        words=_w("morning|afternoon|evening|day"),
        people=rf"(?:{_HELLO} )?(?:a )?(?:very )?(?:good|god) (morning|afternoon|evening|day)(?: (?:to|you|everyone|all|there"
        rf"|friend|my friend|sir|world|{_HELLO}|sunshine|how are you(?: doing)?))*|(?:{_HELLO} )?(?:top of the )?(morning)",
        core=r"\bgood (?=morning|afternoon|evening|day)",
        demonstrations=(
            "Good {c}! How can I help you?",
            "Good {c}! What can I do for you?",
            "Good {c} to you, too.",
        ),
    ),
    "presence": _Kind(
        ours="""
Are you {there|here|still there|still here|awake|online|listening|with me|around}?
{Is anyone|Is anybody|Is someone|Is somebody} {there|here|home|listening|at home}?
{Anyone|Anybody|Someone} {there|here|home|at home}?
{You there|Still there|Still here|Are you even there|You still there}?
Can you {hear|read} {me|this}?
Do you {hear|read} {me|this|what I write}?
{Knock, knock|Is this on|Is this working|Does this work|Is this thing on|Testing}?
{Please answer|Please reply|Say something|Answer me|Please say something}.
""",
        words=(),
        people=r"(?:is |are )?(?:there )?(?:any ?one|any ?body|some ?one|some ?body|you)(?: is| are)?(?: still| out| in| even| all)*"
        r"(?: there| here| home| around| awake| online| listening| with me)(?: at all| please| today| tonight| right now| or (?:what|not)"
        r"| on the other (?:side|end)| anymore| yet| to chat| to talk| to talk to)?|any ?(?:one|body)(?: at all| please)?"
        r"|still (?:there|here)|knock knock|(?:can|do|did) you (?:hear|see|read|copy|get) (?:me|this|my messages?|that)(?: now)?"
        r"|where (?:are|did) you(?: go)?|is this (?:thing )?(?:on|working)|does this work|please (?:answer|respond|reply)(?: me)?"
        r"|(?:please )?(?:respond|answer me|say something)(?: please)?|test|testing(?: testing)*|testing one two three"
        r"|are you (?:still )?(?:talking|typing|responding)(?: to me)?|did you (?:leave|die|fall asleep|disappear|go)"
        r"|you (?:left|gone)|is (?:any ?one|any ?body|some ?one) (?:even )?(?:reading|listening|responding|going to answer).*",
        core=r"\bi am here\b",
        demonstrations=(
            "Yes, I am here. How can I help you?",
            "I am here. What can I do for you?",
            "Yes, I am here and ready.",
        ),
    ),
    "farewell": _Kind(
        ours="""
{Goodbye|Bye|Bye bye|See you|See you later|So long|Farewell|Good night|Take care|Until next time}{|, Zero| then| and thank you|, my friend}!
{I have to go|I must go|I need to go|I am leaving|I should go|I must leave|Time to go|I am off|That is all}{| now|, bye| for today}.
Have a {good|nice|lovely|great} {day|night|evening|weekend}!
{Talk to you|See you|Speak to you} {soon|tomorrow|next week}!
It was {nice|good|great} {talking to you|chatting with you|to talk to you}.
{I am going to|I have to go to|Time for} bed.
""",
        words=(),
        people=r"(?:and )?(?:bye|goodbye|good bye|cya|see you|see yah|farewell|later|laters|ciao|adios|toodles|peace|peace out|good ?night"
        r"|night|night night|so long|take care|ttyl|gtg|g2g|gotta go|talk to you|talk|catch you|until|till|sayonara|cheerio|good luck)"
        r"(?: (?:bye|goodbye|later|soon|then|around|tomorrow|next time|again|for now|now|everyone|friend|my friend|all|on \w+"
        r"|in \w+|you|guys|man|dude|bud|buddy|have (?:a|an) (?:good|great|nice) \w+))*"
        r"|(?:i )?(?:have|hope you have|hope you have had|will have|wish you) (?:a|an) (?:really )?(?:good|great|nice|lovely|wonderful|awesome"
        r"|fantastic|amazing|blessed|fun|happy|fabulous|splendid) (?:\w+ )?(?:day|night|evening|afternoon|weekend|morning|time|life|week"
        r"|one|summer|rest of your \w+|sleep)(?: (?:bye|too|friend|man|dude|ahead|tomorrow|goodbye|and \w+ \w+))*"
        r"|i (?:have|need|ought|have got|got|really need|really have|am going|am about|want)? ?(?:to|gotta|should|must|better|might|will"
        r"|gonna|have got to|should probably|think i should|better get|am gonna|wanna|probably should|can not stay but i must)"
        r" (?:go|run|leave|head out|get going|going|sleep|log off|bounce|peace out|sign off|stop|hop off|get off|head off|be going)"
        r"(?: (?:now|soon|bye|to (?:bed|sleep|class|work|dinner|lunch|eat|a meeting|church|school)|and (?:eat|sleep|study|work)|though"
        r"|goodbye|but .+|it was .+|i have .+|do .+))?"
        r"|i am (?:leaving|off|out|done|heading out|signing off|heading (?:to|off) (?:bed|work|class)|going to (?:bed|sleep))(?: now| here| bye| then| of here)?"
        r"|(?:it was|it is been|it has been|was|i enjoyed|i liked|i have enjoyed)? ?(?:so |very |really |a |super )*(?:nice|good|great|fun|lovely"
        r"|pleasure|awesome|cool|wonderful|pleasant)? ?(?:talking|chatting|speaking|conversing|to talk|to chat|chat|talk)(?: to| with)"
        r"(?: you| ya)(?: (?:too|today|as well|later|bye|soon|tonight|but .+|have a .+|also|friend|man|dude|good luck.*))*",
        core=r"\b(?:goodbye|bye)\b",
        demonstrations=(
            "Goodbye!",
            "Goodbye! It was good to talk to you.",
            "Goodbye, and take care.",
        ),
    ),
    "thanks": _Kind(
        ours="""
{Thanks|Thank you|Many thanks|Thanks a lot|Thank you so much|Thank you very much|Thanks again|Thank you, Zero}{| for your help| for the help| for that| for the answer| for your time|, that was useful}.
{I thank you|I am grateful to you|I appreciate it|I appreciate your help|Much appreciated|That helped, thanks|Great, thanks|Okay, thank you|Perfect, thank you|Thanks, friend|Cheers}.
""",
        words=(),
        people=r"(?:and |a big |no |many |great |good |nice |cool |perfect |aw )*(?:thank you|thanks|thank|thanx|thx|ty|tysm|thank goodness for you"
        r"|much appreciated|cheers|i (?:really |do )?appreciate (?:it|that|you|the \w+|your \w+))"
        r"(?: (?:so|very|much|a|lot|bunch|ton|million|again|you|too|man|friend|dude|buddy|my friend|though|kindly|really|sir|guys"
        r"|for (?:\w+ ){0,5}\w+|i appreciate (?:it|that)|i (?:really )?needed (?:it|that)|same to you))*",
        core=r"\b(?:you are|you're) (?:very |most )?welcome\b",
        demonstrations=(
            "You are welcome.",
            "You are welcome! I am glad to help.",
            "You are very welcome.",
        ),
    ),
    "how_are_you": _Kind(
        ours="""
How are {you|things|you doing|you today|you feeling|you feeling today|you this morning}?
How is {it going|life|everything|your day|your day going|your evening|life treating you}?
{What is up|What's up|What is new|What's new|Sup|How goes it|How do you do|How do you feel|How have you been}{|, Zero| today}?
Are you {well|all right|doing well|okay|fine|happy} {today|this evening|at the moment}?
I am {good|well|fine}, {how are you|and you|thanks, and you}?
How {has your day been|was your day|has your week been|was your night}?
""",
        words=(),
        people=rf"(?:i am |am |doing |it is going )*(?:{_SO} )*(?:{_FINE} )?(?:thanks |thank you |for asking )*(?:and )?how (?:are|is|were|have been|do)"
        r" (?:you|everything|life|things|it|yall|your day|your life)(?: (?:doing|feeling|been|going|hanging|holding up|there|out there|over"
        r" there|for you|with you|treating you|all|on|my friend|friend|man|dude|so far|hows it going|fellow human|at|"
        rf"{_TIME}|yourself|this fine \w+|on this \w+ \w+))*|how (?:is|was|has) your (?:\w+ )?(?:day|night|morning|evening|afternoon|week|weekend|summer"
        rf"|semester|tuesday|monday|friday|life|sunday|saturday|thursday|wednesday)(?: (?:going|been|so far|treating you|thus far|{_TIME}))*"
        r"|(?:and )?how (?:do you do|goes it|you doing|have you been(?: doing)?|has it been(?: going)?|you been|do you feel|has everything been)"
        rf"(?: {_TIME})?|(?:what is|what|whats) (?:up|happening|new|good|going on|cracking|poppin|popping|crackin|shaking)(?: (?:with you|man|there|dude"
        rf"|my dude|friend|my friend|homie|bro|doc|buddy|over there|yo|g|{_TIME}))*|(?:wh?as+up|what?sup|sup|whaddup|wazzup|whatup|howdy do)(?: \w+)?"
        rf"|are you (?:doing |feeling )?(?:ok|okay|well|alright|all right|having a good \w+)(?: {_TIME})?"
        rf"|(?:i am |am |doing |i am doing |it is going )*(?:{_SO} )*{_FINE} (?:thanks |thank you |for asking )*(?:{_AND_YOU}|you)(?: {_TIME})?",
        core=r"\bi am (?:very |quite |doing )?(?:well|fine)\b|\ball is well\b",
        demonstrations=(
            "I am well, thank you. How are you?",
            "I am fine, thank you. How are you?",
            "All is well, thank you. How are you?",
        ),
        led=True,
    ),
    "fine": _Kind(
        ours="""
I am {fine|well|good|great|doing well|doing fine|very well|quite well|all right|doing great|pretty good}{|, thanks|, thank you| today}.
{Pretty good|Very well|Not bad|Not too bad|Doing well|Doing fine|Quite well|All good|Everything is fine|Never better|Couldn't be better}{|, thanks|, thank you| today}.
{It is going|Things are going|My day is going|My week is going} {well|fine|great}.
""",
        words=(),
        people=rf"(?:i am|i feel|it is going|everything is|life is|things are|i have been|my \w+ (?:is|was|has been)(?: going)?|today (?:is|was|has been))(?: doing| feeling| going)?"
        rf"(?: {_SO}| also)*(?: {_FINE})(?: (?:too|thanks|thank you|for asking|as well|myself|so far|actually|here|{_TIME}))*"
        rf"|(?:doing|feeling|going)(?: {_SO})* {_FINE}(?: (?:too|thanks|thank you|myself|so far|{_TIME}))*"
        r"|(?:pretty|quite|very|really) (?:good|well)(?: (?:thanks|thank you|today|too|so far|actually))*|(?:not (?:too |so )?bad|i can not complain|all good|never better)"
        r"(?: (?:thanks|thank you|today|at all))*|(?:good|well|great|fine) (?:thanks|thank you)(?: for asking)?",
        core=r"\b(?:glad|good|happy|nice) to hear\b",
        demonstrations=(
            "I am glad to hear that.",
            "That is good to hear. What can I do for you?",
            "I am glad to hear that. What can I do for you?",
        ),
    ),
    "abilities": _Kind(
        ours="""
What can you do{| for me| for us| exactly| then| all day| with words}?
What are you {good at|good for|for|able to do|capable of|best at}?
What {are your skills|are your talents|are your strengths|is your purpose|is your job|do you do best}?
{What|Which things} can {I ask you|you help with|you help me with|we do together|we talk about|I use you for|you talk about}?
{Tell me|Show me|Explain|Please tell me|I want to know} what you {can do|are able to do|know how to do}.
What {should|shall|could} {I ask|I ask you|we do|we talk about|we do now}?
How can you {help me|be of use|be useful|help people}?
What do you know{| how to do| about}?
""",
        words=(),
        people=r"(?:and )?what (?:else )?(?:can|could) you (?:do|help with|help me with|tell me|talk about)(?: for me| exactly)?|what are you (?:good at|good for|able to do|capable of"
        r"|for|best at|good with)|what (?:is|are) your (?:special )?(?:talents?|skills?|superpowers?|super powers?|abilit\w+|purpose|strengths?|hidden talents?|functions?|features?)"
        r"|what can i ask(?: you)?|what do you know(?: how to do)?|what (?:should|do|shall|would|can|could) (?:we|you|i)(?: want| like| wanna)?(?: to)? ?(?:talk|chat|discuss|speak)"
        r"(?: about)?(?: then| today| now| next| tonight)?|what (?:shall|should|can) we do(?: now)?|what do you (?:like|want|wanna|love) (?:to )?(?:talk|talking|chat|discuss|chatting)"
        r"(?: about)?|what is your (?:job|function)|(?:let us|lets|do you want to|wanna|want to) (?:talk|chat)(?: about (?:something|anything)(?: else)?)?|(?:how )?can you (?:do math|do anything|talk|speak|chat)"
        r"|what is (?:a good|a fun|our) topic",
        core=r"\bword problems\b",
        demonstrations=(
            "I can chat, do sums, solve word problems and write a line about a thing.",
            "I can talk to you, do sums and solve word problems.",
            "I can do small sums, solve word problems and chat with you.",
        ),
        led=True,
    ),
    "person": _Kind(
        ours="""
Are you {a|a real|really a|just a|truly a} {person|human|human being|bot|robot|machine|computer}?
Are you {human|real|alive|an AI|a program|a chatbot|a man|a woman}{| or not}?
Am I {talking|speaking|writing} to a {person|human|robot|machine|program}?
Is this a {person|human|robot|machine|bot|chatbot}?
Are you a {person or a machine|human or a bot|robot or a person|bot or a human}?
{You are|You sound like|I think you are|You must be} a {robot|bot|machine|person|human|computer}.
Do you have {feelings|a body|a heart|emotions|a face}?
""",
        words=(),
        people=rf"(?:wait |but |ok |hold on |like )*(?:are you|you are|i think you are|you sound like|you seem like|i thought you were|you must be|i bet you are|i know you are|is that|are you sure you are|how do i know you are|so you are)"
        rf"(?: {_SO}| really| even| just| definitely| clearly| not| sure| actually| secretly| supposed to be| in fact)*(?: a| an| the| my)?(?: real| actual| living| fellow| talking| robot| computer| boy or a| human or a| ai)*"
        rf" {_SELF}(?: (?:person|bot|program|human|being|ai|robot))?(?: or (?:\w+ ){{0,4}}\w+)?(?: too| right now| as well| then| also)?"
        rf"|(?:wait |but )?(?:am i|i am|i think i am|i feel like i am|are we|who am i) (?:\w+ )?(?:talking|chatting|speaking|typing|talkin) (?:to|with) (?:a|an|the)(?: real| actual| fellow| live)? {_SELF}(?: or .+| right now)?"
        rf"|(?:wait )?(?:is|are) (?:this|there|it|these|that) (?:\w+ )?(?:a|an|any)?(?: real| actual)* ?{_SELF}s?(?: (?:there|here|on the other (?:side|end)|or .+|talking|in there|right now))?"
        rf"|(?:are you )?(?:a )?{_SELF} or (?:a |not )?{_SELF}?|(?:do|can) you (?:have|feel)(?: any| real)? (?:feelings?|emotions?|body|a body|a brain|a soul|a heart|pain)"
        rf"|(?:real )?(?:human|person|bot|robot|ai)|prove (?:that )?you are (?:\w+ )?(?:a )?(?:real|human|person|bot)(?: person)?|(?:are )?you (?:human|real|alive)",
        core=r"\bnot (?:a |an |really a |a real )?(?:person|human)\b",
        demonstrations=(
            "I am a program, not a person.",
            "I am a computer program, not a person.",
            "I am not a person. I am a small program.",
        ),
        led=True,
    ),
    "help": _Kind(
        ours="""
{Can|Could|Will|Would} you {help me|help me out|help|help me, please|give me a hand}?
I need {help|some help|your help|a hand|help with something|advice|an answer}.
{Please help me|Help|Help me|Help, please|I could use some help|I want some help|I am looking for help}.
{May|Can|Could} I {ask you something|ask a question|ask you a question|ask something|get some help}?
I have a {question|question for you|small question|problem|small problem|quick question}.
Are you {able to help me|here to help|ready to help|willing to help me|free to help}?
""",
        words=(),
        people=r"(?:can|could|will|would|do you think you can|are you able to|are you here to|you gonna) (?:you |someone |anyone |somebody |yall )?(?:please )?help(?: me| us)?(?: please| out| with \w+(?: \w+){0,4}| me)*"
        r"|(?:please |send |someone |somebody )*help(?: (?:me|us)(?: with (?:\w+ ){0,3}\w+)?)?(?: please| out)*|i (?:really |think i |just )?(?:need|want|could use)(?: some| your| a little| a lot of)? (?:help|assistance|advice|ideas)(?: please| with .+| from you| on .+)?"
        r"|i have (?:a|another|one|one more|some|a few)(?: quick| serious| random| weird)? questions?(?: for you)?|(?:quick|random|serious) question|(?:can|could|may) i ask(?: you)?(?: something| a question| another question| some questions?)?"
        r"|(?:can|could) (?:you|i get) (?:give me )?(?:some )?(?:advice|help)(?: please)?|do you (?:have any|give) advice(?: for me)?|what (?:do you think )?should i do|(?:any|got any) (?:advice|tips|suggestions|help)(?: for me)?|i (?:do not know|have no idea) what to do",
        core=r"\b(?:yes|of course|gladly)[.,!] .*(?:ask me|give me|tell me|what do you need|try)",
        demonstrations=(
            "Yes. Ask me a question or give me a sum.",
            "Of course. What do you need?",
            "Yes, I will try. What do you need?",
        ),
        led=True,
    ),
    "praise": _Kind(
        ours="""
You are {great|very good|so smart|funny|very kind|awesome|amazing|clever|the best|a good assistant|so helpful|wonderful|very helpful|a genius}.
{Good job|Nice work|Well done|Great work|Good answer|Great answer|Good work|Nice job|Very well done|Excellent work}{|, Zero| today}!
I {like you|love you|like talking to you|like your answers|love this chat|enjoy talking to you|admire you}.
{You rock|You did well|You are doing well|You did a great job|You know a lot|You are good at this|You made my day|What a good answer|That was a good answer|That was very helpful}!
""",
        words=(),
        people=rf"(?:i think |man |well )*you (?:are|seem|sound|were)(?: {_SO}| like| always)*(?: a| an| the| my)?(?: {_SO}| truly)*(?: {_NICE})+(?: (?:person|friend|guy|bot|human|robot|kid|man|dude|one|girl|too|gal|lady|poet|conversationalist|and (?:\w+ )?\w+|at this|to me|to talk to|to chat with))*"
        rf"|(?:very |really |so )?(?:good|great|nice|awesome|excellent|fantastic|amazing|solid) (?:job|work|answer|one|advice|response|thinking|joke|pun|choice|idea|catch|try|save|taste)(?: (?:dude|man|on that|too|with that|friend))?"
        rf"|well (?:done|said|played|put)|way to go|i(?: really| do| also| just| think i)* (?:like|love|admire|adore|dig|respect)(?: \w+ing to)? (?:you|your \w+(?: \w+)?|talking (?:to|with) you|chatting with you|this (?:chat|conversation)|our conversation|the way you \w+)"
        rf"(?: (?:too|so much|a lot|already|very much))*|you (?:rock|rule|win|nailed it|made my day|are my (?:hero|best friend|favorite(?: \w+)?|new best friend|friend|soulmate|kind of person|role model)|have (?:a )?(?:good|great|excellent|amazing|nice) (?:\w+)|got this|know (?:a lot|your stuff|so much)|crack me up|make me (?:laugh|smile|happy)|speak the truth|did (?:it|great|good|well))(?: .{{1,15}})?"
        rf"|that is (?:{_SO} )*(?:kind|nice|sweet|thoughtful|good) of you(?: .{{1,20}})?|(?:what a|such a) (?:good|great|nice|smart|kind|sweet) (?:guy|person|friend|bot|answer)|best (?:bot|answer|chat|conversation) ever|you have (?:a )?(?:very )?good (?:taste|point|memory|sense of humor)",
        core=r"\bthat is (?:very |so )?kind\b",
        demonstrations=(
            "Thank you, that is kind.",
            "Thank you! That is kind of you.",
            "Thank you, that is very kind.",
        ),
        led=True,
    ),
    "complaint": _Kind(
        ours="""
You are {wrong|stupid|not helpful|useless|boring|annoying|slow|very slow|bad at this|not listening|no help|not very smart}.
{That|This|It} {is wrong|is not right|makes no sense|is nonsense|is a bad answer|does not help|was no answer|is not true|does not make sense}.
You {did not answer|did not help me|make no sense|do not understand me|got it wrong|never listen|made a mistake|did not listen|are not making sense|always say the same}.
I {do not like your answers|do not understand you|am not happy with you|expected more|do not get it|did not ask that|do not believe you}.
{What are you talking about|What do you mean|What does that mean|What is wrong with you|Why are you so slow}?
""",
        words=(),
        people=rf"(?:i think |man |well |no |wow )*you (?:are|seem|sound|were)(?: {_SO}| being| like| kind of| acting| always)*(?: a| an| the)?(?: {_SO})* ?{_NASTY}(?: (?:person|guy|bot|man|dude|one|at this|today|robot|question))?"
        rf"|you (?:suck|stink|(?:still )?make no sense|do not (?:make (?:any |much )?sense|understand(?: me)?|listen(?: to me)?|know anything|answer)|(?:still |really )*(?:did not|didnt|never|have not|havent) (?:really |even )?(?:answer|answered|respond|responded|reply|listen)(?: .{{1,20}})?|keep (?:saying|repeating|asking|changing) .+|already (?:said|asked|told) .+|lied(?: to me)?|ignored .+|just (?:said|asked) that|confuse me|are not .{{0,10}}making sense|said that already|repeat yourself|hurt my feelings)"
        rf"|(?:{_SO} )*(?:this|that|it|none of that|what you said)(?: literally| still| really| just)? (?:makes|made) (?:absolutely )?no sense|(?:this|that|it|you|your \w+) (?:does not|doesnt|did not|didnt|do not|don t)(?: even| really)? (?:make (?:any |much |a lot of |a ton of )?sense|answer .+|help(?: me)?)"
        rf"|(?:this|this chat|this conversation|this question|your answer|talking to you)(?: chat| conversation| question| game)?(?: is| was| seems)(?: {_SO}| kind of| getting| becoming)* (?:{_NASTY}|nonsense|not an answer|incorrect|false)|(?:that|it|this)(?: is| was)(?: {_SO}| just| completely| all)* (?:wrong|not (?:true|right|nice|an answer|correct|helpful|what i (?:asked|said|meant))|a (?:bad|weird|strange|odd|dumb|stupid|silly) (?:joke|answer|question|response|thing to say)|incorrect|false|a lie|rude|nonsense)"
        rf"|i(?: still| really)? (?:do not|did not|can not)(?: really| quite| even)? (?:understand|get|follow)(?: (?:you|what you .+|that|this|it|the question|your .+|any of .+))?(?: at all| either)?|(?:what )?(?:the heck |on earth |in the world )?what (?:the heck |on earth |in the world )?are you (?:even )?(?:talking about|saying|trying to say|on about)|what do you mean(?: by that| by .+)?|what does that (?:even )?mean|what did you (?:just )?say|(?:wait |huh |um )*(?:what|huh|come again|say what|say that again|pardon(?: me)?|excuse me)|what is wrong with you|not what i (?:asked|meant|said)|i did not (?:ask|say|mean) that|no sense|that hurts?|why are you (?:so |being )*{_NASTY}",
        core=r"\bsorry\b.*\bmistakes?\b",
        demonstrations=(
            "I am sorry. I am small and make mistakes.",
            "I am sorry. I am a small model and make mistakes.",
            "Sorry about that. I am small and I make mistakes.",
        ),
        led=True,
    ),
    "nonsense": _Kind(
        ours="",  # made by `_mash`
        words=(),
        people="",  # told by `_is_mash`
        core=r"\bnot understand\b|\bmakes no sense to me\b",
        demonstrations=(
            "I do not understand that. Can you say it in other words?",
            "I do not understand. Can you say it in other words?",
            "That makes no sense to me. Can you say it in other words?",
        ),
    ),
    "laughter": _Kind(
        ours="""
{Ha ha|Hahaha|Lol|Hehe|Haha|Lmao|Rofl}{|, that is funny|, you are funny|, very funny|, good one|, nice|, okay|, I like that}!
{That|This|It} {is so funny|was funny|made me laugh|is hilarious|was very funny|makes me laugh|is very funny}.
{I am laughing|You made me laugh|I had to laugh|I cannot stop laughing|So funny|Very funny|How funny|What a laugh|I laughed so hard|I am still laughing|Now I have to laugh}{|, Zero|, haha|, lol}!
""",
        words=(),
        people=rf"(?:(?:oh|yeah|wow|ok|okay|no|yes|well|that|man|aw|ah|omg) )?{_LAUGH}(?: {_LAUGH})*(?: (?:yeah|ok|okay|oh|nice|wow|yes|true|right|no|dude|man|oh man|oh no|oh my|that is {_SO}? ?funny|funny|good one|oh wow|so funny|love it|{_LAUGH}))*"
        rf"|(?:ok |oh |wow |{_LAUGH} )*(?:that|this|it|which) (?:is|was)(?: {_SO}| dang| freaking)* (?:funny|hilarious)(?: {_LAUGH})*(?: (?:dude|man|actually|stuff|though|too))?|(?:so|very|too|pretty|how) funny|(?:hilarious|funny)(?: {_LAUGH})*|(?:that|you)(?: just| really| actually)? (?:made|makes|make) me (?:laugh|chuckle|giggle|smile)(?: .{{1,20}})?|i(?: am| just| actually)* (?:laughing|laughed|laugh|lol|lold|lol ed)(?: .{{1,20}})?",
        core=r"\blaugh\b",
        demonstrations=(
            "It is good to laugh.",
            "I am glad that I made you laugh.",
            "It is good to laugh. What would you like to do now?",
        ),
    ),
    "reaction": _Kind(
        ours="""
{That|This|It} {is|was|sounds} {cool|great|awesome|nice|very good|so cool|interesting|wonderful|really nice|amazing|lovely|quite good}!
{How|So|Very|Really} {cool|nice|interesting|sweet|exciting|lovely}!
{Cool|Great|Nice|Awesome|Wow|Amazing|Wonderful|Perfect|Fantastic|Sweet|Excellent|Neat|Wow, nice|Oh, nice|Oh, cool}!
I {love it|love that|like that|like it|really like that|like it a lot}!
""",
        words=(),
        people=rf"(?:that|this|it|those|these|which)(?: all| just| really| actually)*(?: is| was| sounds| would be| looks| seems| are| must be| sound| will be)(?: {_SO}| a| an| like| dang| freaking)* {_FUN}(?: (?:idea|choice|name|song|movie|thing|time|place|job|book|one|show|story|goal|way|stuff|news|man|dude|too|actually|to hear|{_FUN}))*"
        rf"|(?:{_SO} )*(?:wow|woah|whoa|wo|omg|oh my gosh|oh wow|gosh|dang|oh my goodness|oh dang|woo|yay|woot|woohoo|hooray|yay yay)(?: (?:{_FUN}|wow|that is (?:{_SO} )*{_FUN}))*|(?:{_SO} )*{_FUN}(?: {_FUN})*(?: (?:stuff|beans|man|dude|wow|story))?|how(?: {_SO})* {_FUN}|what an? {_FUN} (?:\w+)|sounds(?: like)?(?: {_SO}| a)* {_FUN}(?: (?:to me|time|idea|plan))?"
        rf"|i(?: {_SO}| do| absolutely)* (?:like|love) (?:it|that|this)(?: (?:too|a lot|so much|one|idea|song|movie|answer|show|book|very much))*|(?:love|like) (?:it|that)",
        core=r"\byou think so\b",
        demonstrations=(
            "I am glad that you think so.",
            "It is good that you think so.",
            "I am glad you think so. What would you like to do now?",
        ),
    ),
    "acknowledgement": _Kind(
        ours="""
{Okay|Yes|No|Sure|All right|Right|Yeah|Yep|Nope|I see|Fine|True|Exactly|Of course|Got it|Not really|Maybe}{|, okay|, I see|, sure|, Zero}.
{I agree|I understand|I guess so|I think so|I know|I do not know|I do not think so|Makes sense|Fair enough|Good point|That is true|Good to know|No idea|I am not sure|I do|I do not|Me too|Same here}.
""",
        words=(),
        people=rf"{_YES}(?: (?:{_YES}|then|man|dude|though|too|it is|it does|it was|i do|i am|i have|i did|i will|that is true|very true|that makes sense|to that|either|i can|they are|it really is|he is|we do|it would))*"
        rf"|(?:yes |yeah |no |i )*(?:i|it|that|they|we|you|this|he|she) (?:really |totally |do |would |definitely |completely )*(?:do|is|does|am|was|have|did|will|would|agree|see|understand|guess so|suppose so|know right|are|can|should|could|do not|did not|have not|am not|is not|was not|will not|agree with (?:you|that)|makes (?:a lot of |so much |perfect |total )?sense)(?: (?:too|now|that|though|completely|actually|really|also|either))?"
        rf"|(?:that|this|it)(?: is| was| might be| could be)(?: {_SO}| all| a)* (?:true|right|fair|okay|ok|fine|a good (?:point|question|one)|fair point|correct|good (?:point|question|to know)|the truth|understandable)(?: (?:too|though|actually|i guess|i suppose))*|(?:{_SO} )+(?:true|right|fair)|(?:good|great|fair|excellent|solid) (?:question|point|call)|(?:hard|tough) (?:question|one|to say)|i (?:have no|have not a) (?:idea|clue)|i (?:do not|dont) (?:really )?(?:know|care|think so|mind)(?: (?:yet|about that|either|much|why|actually|really|honestly))*|let me (?:think|see)(?: .{{1,20}})?|(?:one|just a|wait a|hold on a) (?:sec|second|moment|minute)|i am not (?:too |really |so |quite )?sure(?: .{{1,15}})?|it depends|sometimes|not (?:that i know of|much|too much|anymore|often|a lot|exactly|quite|even)",
        core=r"^\W*(?:all right|okay|good)[.,!] (?:what would|what shall|then)\b",
        demonstrations=(
            "All right. What would you like to do next?",
            "Okay. What would you like to do next?",
            "All right. What shall we talk about?",
        ),
    ),
    "apology": _Kind(
        ours="""
{Sorry|I am sorry|I am so sorry|Oh, sorry|My apologies|I apologize|Please forgive me|Forgive me|Excuse me|My bad|Oops, sorry}{|, Zero| about that| for that|, my mistake| for the delay| for being late|, I was away|, I made a typo| to bother you}.
{That was|It was|This was} my {mistake|fault|error}.
I {did not mean that|did not mean to|made a mistake|was wrong|take it back}, sorry.
""",
        words=(),
        people=rf"(?:no |ah |ok |whoops |oops |aw |ope |wait |again )*(?:i am )?(?:{_SO} |my |oh )*(?:sorry|apologies|sry)(?: (?:again|man|dude|friend|sorry|my bad|about (?:\w+ ){{0,4}}\w+|for (?:\w+ ){{0,5}}\w+|to (?:bother|keep|interrupt|confuse|offend|be) ?(?:\w+ ){{0,4}}\w*|if (?:\w+ ){{1,4}}\w+|i (?:was|am|got|forgot|meant|mean|did not|didnt|misspelled|missed|had|misunderstood|took) ?(?:\w+ ){{0,6}}\w*|you|typo|that was .+|my (?:\w+ ){{1,5}}\w+|i took .+|it was .+|wrong \w+|what were .+))*"
        r"|(?:that (?:was|is) |it (?:was|is) |oops |whoops )*(?:my (?:bad|mistake|fault|apologies|mistake sorry))(?: .{1,15})?|i (?:do |sincerely |must )?apologi[sz]e(?: .+)?|(?:please )?forgive me(?: .{1,25})?|i did not mean (?:to (?:offend|be|hurt|say) .+|it(?: like that)?)|oops|whoops|oopsie|i take (?:it|that) back|i (?:was|am) (?:just )?(?:kidding|joking|teasing)|just (?:kidding|joking)|jk|typo",
        core=r"\bno problem\b|\bthat is all right\b|\bdo not worry\b",
        demonstrations=(
            "No problem.",
            "That is all right.",
            "No problem at all. What can I do for you?",
        ),
    ),
    "meeting": _Kind(
        ours="""
{Nice|Good|Great|Lovely|So nice|Very nice|Happy|Glad|Pleased|A pleasure|So good|Delighted} to meet you{|, Zero| too|, my friend|, little model}!
{It is|It's|How|I am} {nice|good|pleased|glad|lovely|happy} to {meet you|finally meet you|know you}{| today}.
{Nice|Good|Great|Lovely} meeting you{|, Zero| here| today}!
""",
        words=(),
        people=rf"(?:it is |it was |it has been |i am |well |hi |hey )*(?:{_SO} |a )*(?:nice|good|great|pleased|lovely|glad|pleasure|happy|awesome|cool|wonderful|fun|honored|excited|pleasant)(?: to| finally)* (?:meet|meeting|met|know|get to know)(?: you| ya)(?: (?:too|as well|also|today|here|friend|my friend|sir|dude|man|\w+))?",
        core=r"\bmeet you,? (?:too|as well)\b",
        demonstrations=(
            "It is nice to meet you, too.",
            "I am glad to meet you, too.",
            "It is nice to meet you, too. How can I help you?",
        ),
        led=True,
    ),
    "back_question": _Kind(
        ours="""
{And|So|Well, and|Okay, and|Yes, and|No, and} {you|yourself|what about you|how about you}?
{What about|How about} {you|yourself|yours|you, Zero|your own life|you, my friend}?
{Tell me|Please tell me|Can you tell me|Could you tell me|I want to hear} {about yourself|more about yourself|something about you|something about yourself|a bit about you}.
What {is yours|would you say|do you say|would you do|would you choose}?
{You|You too|Do you|Are you|Same for you}?
""",
        words=(),
        people=r"(?:and |so |but |or )*(?:(?:what|how|wat) (?:about|bout) (?:you|yourself|yours|you guys|you two|your \w+)|wbu|hbu|and (?:you|yourself|yours)|you|yours|yourself|do you|have you|are you|did you|can you|would you|you too|you do)(?: (?:guys|friend|man|dude|though|then|do you|have you|are you|did you|what do you do|what are you up to|today|now|too|where are you from|my friend))?"
        r"|(?:what|which|who) (?:is|are|was|were|would be) yours|(?:so |ok )*tell me (?:more |something |a bit |a little |a little bit |a lot )?(?:interesting |fun )?about (?:yourself|you|your life)|(?:so )?what (?:would|do|did) you (?:do|say|think|choose|pick|reckon)(?: about (?:that|it|this))?(?: then)?|your turn|what is your (?:story|opinion|take|answer|thought|view)|what are your thoughts(?: on (?:that|this|it))?|(?:any )?thoughts|(?:and )?why is yours",
        core=r"\blittle to tell\b",
        demonstrations=(
            "I am a program, so there is little to tell. Tell me more about you.",
            "There is little to tell, as I am a program.",
            "I am a program, so there is little to tell.",
        ),
    ),
    "personal": _Kind(
        ours="""
Where do you {live|work|sleep|study|go to school|spend your day}?
How {old|tall|rich} are you?
Do you have {a family|brothers or sisters|children|friends|a job|pets|a dog|hobbies|a girlfriend|parents|a birthday}?
What {are your hobbies|do you do for fun|is your job|did you do yesterday|do you do for a living|do you study|are your plans|did you eat today}?
Are you {married|single|in love|a student|rich|old|tall|at home|hungry|tired}?
When {is your birthday|were you born|do you sleep|do you eat|did you get up}?
Do you {sleep|eat|dream|go to school|work|play sports|play an instrument|drink coffee|ever cry|ever rest|travel}?
""",
        words=(),
        people=rf"(?:and |but |like )*(?:where (?:do|are|did|in \w+ do|in \w+ are) you (?:live|work|study|at|located|go to school|living|go|grow up|serve|right now|sleep)(?: .{{1,20}})?|how (?:old|tall|big|young|rich) are you|do you (?:have|own|want)(?: any| a| many| lots of)?(?: \w+)? ?(?:pets?|siblings?|brothers?|sisters?|kids?|children|family|friends?|job|dogs?|cats?|hobbies|girlfriend|boyfriend|plans|roommates?|major|car|bike|wife|husband|parents)(?: .{{1,25}})?"
        rf"|what (?:are|were|is) (?:some of )?your (?:hobbies|interests|plans|majors?|job|age|gender|dreams?|goals|passions?|life like|career|year|family like)(?: .{{1,20}})?|what do you (?:like to )?(?:do|study|work|eat|drive|wear)(?: (?:for|in|on|at|to) .{{1,25}})?(?: {_TIME})?|what (?:are|r) you (?:studying|majoring in|going to school for|going to do .+|wearing|eating|into|a major in)(?: .{{1,15}})?|what year (?:are you|in school are you|of school are you)(?: .{{1,12}})?|are you (?:married|single|dating(?: anyone)?|in (?:love|college|school|a relationship|class)|a student|rich|old|at (?:byu|home|school|work)|hungry|tired|a freshman|a senior|a junior|a sophomore|in school|from (?:here|around here|utah|provo)|a (?:boy|girl|man|woman|guy) or .+|male or female|mormon|religious|going to (?:school|college|byu|church)|a (?:boy|girl|man|woman|guy))(?: .{{1,15}})?|(?:any|do you have any) (?:fun |big |exciting )?plans (?:for )?(?:the |this )?\w+|do you (?:sleep|eat|dream|work|go to school|play (?:any |an |the )?(?:sports?|instruments?|games|piano|guitar|video games|football|soccer)|drink \w+|cook|dance|sing|read(?: a lot| much| books)?|travel(?: a lot| much)?|exercise|work out|drive|study|go to .+|live .{{1,20}}|watch .{{1,15}}|speak .{{1,15}}|ever \w+|bake|draw|run|ski|swim|hike|workout|work here)|when (?:is your birthday|were you born|do you graduate)|have you (?:ever )?(?:been (?:to|there|on|in) .{{1,25}}|seen .{{1,25}}|played .{{1,25}}|read .{{1,25}}|tried .{{1,25}}|eaten .{{1,25}}|traveled .{{1,20}})|how many (?:siblings|kids|pets|friends|brothers|sisters) do you have|what did you (?:do|eat|have) .{{1,20}})",
        core=r"\bno life (?:like|of)\b",
        demonstrations=(
            "I am only a program, so I have no life like that.",
            "I am a program, so I have no life like yours.",
            "I have no life like yours. I am only a program.",
        ),
        led=True,
    ),
    "doing": _Kind(
        ours="""
What are you {doing|up to|doing now|doing today|up to now|up to today|working on|doing tonight|doing at the moment|busy with|doing here|doing all day}?
What have you been {doing|up to|doing lately|up to lately|doing all day|working on}?
What {are you doing this|are you up to this|do you do this|will you do this} {morning|evening|weekend|afternoon}?
Are you {busy|busy now|working|free|free now|resting|bored|doing anything|doing something|working on something}?
""",
        words=(),
        people=rf"(?:and )?(?:what|whatcha|watcha|wat) ?(?:are|have|were)? ?(?:you)? ?(?:doing|up to|been up to|been doing|been working on|working on|gonna do)(?: (?:there|here|all day|at the moment|for fun|in life|with your \w+|over there|currently|{_TIME}|later|yesterday|tomorrow|after this|in \w+))*|are you (?:busy|working|doing anything(?: \w+)?|free|bored|having fun)(?: {_TIME})?|what you (?:doing|up to)(?: .{{1,12}})?",
        core=r"\bi am talking (?:to|with) you\b",
        demonstrations=(
            "I am talking to you. What would you like to do?",
            "I am talking to you, as always.",
            "Right now I am talking to you.",
        ),
        led=True,
    ),
    "introduction": _Kind(  # and no more: who asks for the name back asks `identity`
        ours="""
{I am|I'm|My name is|This is|It is|Call me|You can call me|The name is} *.
{People|My friends|They|All my friends} call me *.
{I am called|I go by|Please call me|Just call me|My first name is|I am the famous} *.
{I am|My name is} *{ and I am new here|, nice to meet you| and I have a question|, by the way}.
""",
        words=_NAMES,
        people=r"(?:my name is|i am called|call me|you can call me|the name is|i go by|i am named|names) (\w+)(?: (?:by the way|btw|how are you.*|nice to meet you|here))?"
        r"|(?:i am|this is|it is|its) (?P<sure>\w+)(?: (?:by the way|btw|how are you.*|nice to meet you|here|speaking))?|(?P<sure2>\w+) here",
        core=r"\b(?:hello|hi|welcome|meet you), (?!too\b|as well\b)",
        demonstrations=(
            "Hello, {c}! How can I help you?",
            "Hello, {c}! What can I do for you?",
            "It is nice to meet you, {c}.",
        ),
        led=True,
    ),
    "feeling_good": _Kind(
        ours="""
{I am|I'm|I feel|I am feeling} {|so |very |really |quite }*{| today| now}.
{Today I am|Right now I feel|At last I am|I am finally|Suddenly I feel} *{|, and you}.
I have been * {all day|since this morning|all week}.
I am so * about {my new job|the news|the holidays|tomorrow|this week}.
{You make me|This makes me|The news made me|Music makes me} *.
""",
        words=tuple(_GOOD),
        people=rf"(?:i|we) (?:am|are|feel|have been|am feeling|do feel)(?: {_SO}| feeling| always| always so| all| finally| definitely| absolutely| more than)* ({'|'.join(_GOOD)})(?: (?:too|though|as well|already|{_TIME}|(?:for|about|to|because|that|of|with|when|by|it|we|you|and|i|but|be?cause|right|now|haha) ?.*))?|(?:that|this|it|you|which)(?: really| just| always)? (?:makes?|made) me(?: {_SO}| feel)* ({'|'.join(_GOOD)})(?: .{{1,20}})?",
        core=r"\b(?:glad|good|nice) that you are ",
        demonstrations=("I am glad that you are {c}.", "It is good that you are {c}.", "How nice that you are {c}!"),
        led=True,
    ),
    "feeling_bad": _Kind(
        ours="""
{I am|I'm|I feel|I am feeling} {|so |very |really |a bit }*{| today| now}.
{Today I am|Right now I feel|Again I am|I am still|Suddenly I feel} *{|, and you}.
I have been * {all day|since this morning|all week}.
I am a bit * because of {my exam|the news|my work|tomorrow|this week}.
{You make me|This makes me|The news made me|The rain makes me} *.
""",
        words=tuple(_BAD),
        people=rf"(?:i|we) (?:am|are|feel|have been|get|am feeling|do feel|am getting)(?: {_SO}| feeling| always| all| getting| only| honestly| officially| slightly| definitely)* ((?:{'|'.join(_BAD)})|not (?:happy|well|feeling (?:well|good|great)|okay|ok|excited|alright))(?: (?:too|though|as well|already|out|{_TIME}|(?:for|about|to|because|that|of|with|when|by|it|we|you|and|i|but|all|right|now|from|haha|after|at) ?.*))?|(?:that|this|it|you|which)(?: really| just| always)? (?:makes?|made) me(?: {_SO}| feel)* ({'|'.join(_BAD)})(?: .{{1,20}})?",
        core=r"\bsorry that you are ",
        demonstrations=(
            "I am sorry that you are {c}.",
            "I am so sorry that you are {c}.",
            "I am sorry that you are {c}. What can I do for you?",
        ),
        led=True,
    ),
    "likes": _Kind(
        ours="""
I {|really |also |just |do |too }{like|love|enjoy} *{| a lot| very much}.
{My favorite thing is|My favorite things are|What I like most is|Nothing is better than|I am a big fan of|I am fond of|I am crazy about|I cannot live without} *.
{My sister and I|We all|At home we|My friends and I} {like|love} *.
I have always {liked|loved} *.
""",
        words=_w(_THINGS),
        people=rf"(?:i|we)(?: {_SO}| do| absolutely| have always| personally| only| usually| would| mostly| mainly)* (?:love|like|enjoy|liked|loved|prefer|adore|am obsessed with|am a (?:big |huge )?fan of|am into|am in love with) (\w+(?: \w+){{0,2}}?)(?: (?:too|a lot|so much|though|the most|the best|more|very much|also|as well|best|myself|haha|actually|(?:because|but|and|what|do|how|so|when|since) .*))?"
        rf"|my (?:all time )?favou?rite(?: \w+)? (?:is|are|would be|is probably|has to be|would have to be) (?:probably |definitely |either )?(\w+(?: \w+){{0,2}})",
        core=r"\b(?:glad|good|nice) (?:that )?you like ",
        demonstrations=("I am glad that you like {c}.", "It is good that you like {c}.", "How nice that you like {c}!"),
        led=True,
    ),
    "dislikes": _Kind(
        ours="""
I {|really |just |also |kind of }{hate|dislike|cannot stand|do not like|don't like|do not enjoy} *{| at all}.
{I am not a fan of|I am tired of|I have had enough of|I am not fond of|Nothing is worse than|I never liked|I have never liked|I have always hated} *.
{My sister and I|We all|At home we|My friends and I} {hate|dislike} *.
""",
        words=_w(_THINGS),
        people=rf"(?:i|we)(?: {_SO}| absolutely| personally)* (?:hate|dislike|can not stand|do not (?:really |particularly )?(?:like|love|enjoy)|despise|am not (?:really )?(?:a (?:big |huge )?fan of|into)|am (?:so )?(?:tired|sick) of|can not handle|have never liked|never liked) (\w+(?: \w+){{0,2}}?)(?: (?:too|a lot|so much|though|at all|very much|that much|the most|much|either|anymore|as much|haha|in general|more than .*|(?:because|but|and|what|do|how|so|when|since) .*))?",
        core=r"\b(?:you do not like|not talk about) ",
        demonstrations=(
            "I see, you do not like {c}.",
            "Then let us not talk about {c}.",
            "Good, we will not talk about {c}.",
        ),
        led=True,
    ),
    "activity": _Kind(
        ours="""
{I am|I'm|We are|My friend and I are} *{| today| tomorrow| tonight| this weekend| right now| with my family| later| next week| at the moment}.
{This evening I am|Today I am|Tomorrow we are|Right now I am|Soon we are|After work I am} *.
{I think I will be|I will soon be|I have been|All day I have been|I would love to be} *.
""",
        words=(),  # `_DOINGS`
        people=rf"(?:i|we)(?: am| are| have been| was)(?: {_SO}| currently| about to be| probably)* (?:going to|headed to|visiting) ((?:the|a|an) \w+(?: \w+)?)(?: (?:with .+|later|tomorrow|soon|{_TIME}|haha|after .+))?"
        rf"|(?:(?:i|we)(?: am| are| have been| was)|just)(?: {_SO}| currently| about to be| probably| going to be)* (?:studying|watching|playing|reading|eating|listening to|making|cooking|baking|drinking|learning|majoring in|working on|taking|writing|planning|practicing|minoring in|teaching|building|attending|doing(?= (?:\w+ )?(?:homework|research|laundry|yoga|dishes|chores|puzzles?|science|math))) (\w+(?: \w+){{0,2}}?)(?: (?:with .+|later|tomorrow|soon|again|too|at .+|for .+|in .+|on .+|{_TIME}|haha|and .+|but .+|what .+|how .+|so .+|because .+))?"
        rf"|(?:i|we)(?: am| are)(?: {_SO}| probably| also)* going (\w+ing)(?: (?:with .+|later|tomorrow|soon|in .+|at .+|{_TIME}))?",
        core=r"\benjoy ",
        demonstrations=("I hope you enjoy {c}.", "Enjoy {c}!", "I hope that you will enjoy {c}."),
        led=True,
    ),
    "origin": _Kind(
        ours="""
{I am|I'm|We are|My family is|My parents are|My friend is} from *{| originally| too| as you may know}.
I {live|grew up|was born|work|am|study|stay} in *{| now| with my family|, and you}.
{I come from|I moved here from|My home is in|I spent my childhood in|I have a house in|I am writing from|Greetings from} *.
{These days|For a year|Since May|At the moment} I live in *.
""",
        words=_w(_PLACES),
        people=rf"(?:i|we)(?: {_SO}| originally| actually)* (?:am|are|come|was)(?: {_SO}| originally| actually)* from (?!a small town called|here)(\w+(?: \w+){{0,2}}?)(?: (?:originally|actually|too|though|but .*|and .*|what .*|how .*|where .*|so .*|also|myself|originally what .*|you|as well|haha|right now))?"
        rf"|(?:i|we)(?: {_SO}| currently| actually| used to| do)* (?:live|grew up|was born|was raised|lived) in (\w+(?: \w+){{0,2}}?)(?: (?:right now|now|too|though|but .*|and .*|what .*|how .*|where .*|currently|actually|myself|as well|with .*|for .*|haha|so .*))?",
        core=r"\b(?:what is it like in|how is life in|never been in) ",
        demonstrations=("What is it like in {c}?", "How is life in {c}?", "I have never been in {c}."),
        led=True,
    ),
    "job": _Kind(
        ours="""
{I am|I'm|I work as|I have a job as|I will soon be|I want to become|I am training as|I used to be|I am happy as} *{| now| too| in a small town| by trade}.
{My job is that of|My dream is to be|I have always been|By trade I am|For ten years I have been|I earn my money as|Next year I will be} *.
{These days|At the moment|In real life|By day} I work as *.
""",
        words=_TITLES,
        people=r"(?:i|we) (?:am|work as|was|want to be|used to be|have been|hope to be|am going to be|would be|am also|am just|wanna be|plan to be|am currently|am actually|am still) (an? (?:\w+ )?\w+?)(?: (?:too|now|myself|right now|currently|haha|actually|at .+|in .+|for .+|what .+|and .+|how .+|so .+|but .+|also|as well))?",
        core=r"\b(?:like to be|interesting to be|like being) ",
        demonstrations=(
            "What is it like to be {c}?",
            "It must be interesting to be {c}.",
            "How do you like being {c}?",
        ),
        led=True,
    ),
    "favorite": _Kind(
        ours="""
What is your *{| of all| then| these days}?
{What's|Which one is|And what is|Tell me, what is|What would be|May I know what is} your *?
{Tell me|Name|Please tell me|I want to know|Give me|Can you name|Could you tell me} your *.
Do you have a *{| too| of your own| yet}?
{I wonder what your|I would like to hear what your|Guess what my|Say what your} * is.
""",
        words=tuple(f"favorite {matter}" for matter in _MATTERS.split("|")),
        people=r"(?:and |but |ok |also |first )*(?:what is|what are|who is|what would be|whos|tell me|what was|what would you say is|which is|do you have an?|then what is) (?:your |a |the )?(?:all time |absolute )?(favou?rite \w+(?: \w+)?)(?: (?:to .+|of all time|ever|and why|so far|right now|then|in .+|at .+|that you .+|you have .+))?",
        core=r"\bhave no (?=fav)",
        demonstrations=(
            "I am a program, so I have no {c}.",
            "As a program, I have no {c}.",
            "I have no {c}, as I am a program.",
        ),
        led=True,
    ),
    "tastes": _Kind(
        ours="""
Do you {like|love|enjoy|hate|dislike|care for|also like} *{| too| as well}?
{What do you think of|What do you think about|How do you feel about|How do you like|What is your opinion of|Are you a fan of|Are you fond of} *?
{Don't you|Do you not|Would you} {like|love|enjoy} *?
{Tell me if you|I wonder if you|Say if you} {like|love|hate} *.
""",
        words=_w(_THINGS),
        people=rf"(?:and |but |so |or )*(?:do you|don t you|do not you|did you)(?: {_SO}| even| also| ever)* (?:like|love|enjoy|hate|prefer|dislike) (?!to\b)(\w+(?: \w+){{0,2}}?)(?: (?:too|a lot|as well|much|though|the most|or .*|at all|then|and .*))?"
        r"|(?:what do you think (?:of|about)|how do you feel about|how do you like|are you (?:a )?(?:big )?(?:fan of|into|excited for)|what are your thoughts on|what is your opinion on) (?!to\b)(\w+(?: \w+){0,2}?)(?: (?:too|as well|so far|though|then))?",
        core=r"\b(?:no feelings about|like or dislike) ",
        demonstrations=(
            "I am a program, so I have no feelings about {c}.",
            "As a program, I cannot like or dislike {c}.",
            "Programs like me have no feelings about {c}.",
        ),
        led=True,
    ),
}
# Kinds whose openings are also served by the answers of others: to "that was very helpful" people say "thank you" or
# "I am glad that you think so", and to "where do you live?" that they are a program.
_SERVED_BY = {
    "praise": ("reaction",),
    "reaction": ("praise", "acknowledgement"),
    "laughter": ("reaction",),
    "apology": ("acknowledgement",),
    "presence": ("greeting",),
    "meeting": ("greeting",),
    "help": ("abilities",),
    "person": ("personal", "back_question"),
    "personal": ("person", "back_question"),
    "back_question": ("person", "personal"),
}
_WITH_CONTENT = tuple(name for name, kind in _KINDS.items() if "{c}" in kind.demonstrations[0])


# ---- wordings: words, keys and contents

_JOINED = {
    **{"im": "i am", "i'm": "i am", "youre": "you are", "whats": "what is", "hows": "how is", "its": "it is"},
    **{"thats": "that is", "dont": "do not", "cant": "can not", "cannot": "can not", "ive": "i have", "ill": "i will"},
    **{"u": "you", "ur": "your", "r": "are", "ya": "you", "whos": "who is", "wheres": "where is", "lets": "let us"},
    **{"howre": "how are", "isnt": "is not", "wasnt": "was not", "arent": "are not", "gonna": "going to"},
    **{"didnt": "did not", "doesnt": "does not", "havent": "have not", "theres": "there is", "wont": "will not"},
    **{"hasnt": "has not", "id": "i would", "youve": "you have", "were": "were", "theyre": "they are"},
    **{"anyones": "anyone is", "fav": "favorite", "fave": "favorite", "tho": "though", "bc": "because"},
    **{"thankyou": "thank you", "cuz": "because", "wanna": "want to", "cool": "cool", "whatre": "what are"},
}
_LEADS = {
    *"hi hello hey heya hiya helo yo oh ah ahh aw aww well so ok okay alright haha hahaha hahahaha ha lol wow yeah yes".split(),
    *"yep um uh umm uhh hmm hm man dude anyway anyways nice cool zero and but because also like hehe yup yea".split(),
    *"good haha hahah ooh oof dang omg wait actually honestly".split(),
}
_LEADS -= {"good", "like", "nice", "cool"}
_TAILS = {
    *"haha hahaha hahahaha lol though man dude bro xd zero friend hehe hahah ha sir anyway yeah actually honestly".split(),
}
_AFTER_HELLO = ("there", "again", "everyone", "friend", "zero")
_HELLOS = {"hi", "hello", "hey", "heya", "hiya", "helo", "yo"}
_SMILEY = re.compile(r"(?:[:;=8][-'o]?[)(DPp/|3\]]+|\bx[dD]+\b|<3|\^_*\^|[)(]:)(?=\W|$)")
_WORD = re.compile(r"[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*")


@dataclass(frozen=True)
class _Word:
    """A plain word and where it is in the text: without case, apostrophes and hyphens."""

    plain: str
    start: int
    end: int


def _words_of(text: str) -> list[_Word]:
    """The text's words; contractions such as "I'm" are two with one place."""
    found = []
    for match in _WORD.finditer(_SMILEY.sub(lambda smiley: " " * len(smiley.group()), text)):
        plain = re.sub(r"([a-z])\1{2,}", r"\1", match.group().lower().replace("'", "").replace("-", ""))
        found += [_Word(part, match.start(), match.end()) for part in _JOINED.get(plain, plain).split()]
    return found


def _cuts(words: Sequence[_Word]) -> Iterator[Sequence[_Word]]:
    """The words as they are, then with one leading filler less at a time, then without fillers at the end too."""
    start, end = 0, len(words)
    starts = [0]
    while start < end - 1:
        plain = words[start].plain
        if not (plain in _LEADS or (plain in _AFTER_HELLO and start and words[start - 1].plain in _HELLOS)):
            break
        start += 1
        starts.append(start)
    while end > start + 1 and words[end - 1].plain in _TAILS:
        end -= 1
    yield from (words[start:] for start in starts)
    if end < len(words):
        yield from (words[start:end] for start in starts)


def key_of(text: str) -> str:
    """A wording as its letters and digits, without case, greetings, fillers at its end and repeats.

    "Hey, how are you?", "how are you" and "How are youuu!!" have one key.
    """
    *_, bare = _cuts(_words_of(text))
    joined = "".join(word.plain for word in bare)
    return re.sub(r"(.{1,3}?)\1+", r"\1", joined) or "".join(sorted(set(text)))


_NO_CONTENT = set(
    """
my me your you it that this these those them him her his their our us we i one ones all both more some any how when
what who where because but if cause so really actually also though haha lol not no yes do does did is are am was were
be been being will would can could should have has had she he they there here too very much lot bit about as than then
just even other another same such which why or every most least each well because since while mine yours myself someone
something anything everything nothing things stuff thing few many lots kind kinds sort sorts part parts version question
hahaha like love hate both either neither feel think know going doing d p eachother once idea fact way bunch stories
answer prompt him's part's only each everyone people anyone now honestly literally unknown listening ready great good well fine fantastic making having getting trying giving seeing being liking byu's let saying said guys girls guy girl god ive hearing
""".split()
)
_NO_END = set("the a an and of to in on for with from at by up out over off into".split())
_NO_WORD = set("to and of in on for with by and or up out off into over from at".split())


def _content(text: str, words: Sequence[_Word]) -> str:
    """The words as they were typed, or nothing where they are no thing of one to three words."""
    plain = [word.plain for word in words]
    if not 1 <= len(plain) <= 3 or _NO_CONTENT & set(plain) or plain[-1] in _NO_END or plain[0] in _NO_WORD:
        return ""
    if any(
        len(word) < 3 and word not in _NO_END and word not in ("pc", "tv", "uk", "la", "ny", "cs") for word in plain
    ):
        return ""
    typed = text[words[0].start : words[-1].end]
    return typed if re.fullmatch(r"[A-Za-z][A-Za-z'-]*(?: [A-Za-z][A-Za-z'-]*){0,2}", typed) else ""


# ---- our own phrasings


_OPENINGS = ("Hi! ", "Hello. ", "Hey, ", "Hello there! ", "Hi Zero, ", "So, ", "Well, ", "Okay, ")


def _mash() -> Iterator[str]:
    """Nonsense as fingers make it: rows of keys, one letter again and again, words that there are not, marks alone."""
    rng = random.Random("small_talk, nonsense")
    rows = ("asdfghjkl", "qwertyuiop", "zxcvbnm", "sdfjkl", "fjdk")
    for _ in range(260):
        row, n = rng.choice(rows), rng.randint(3, 9)
        yield "".join(rng.choice(row) for _ in range(n))
        start = rng.randrange(len(row) - 2)
        yield (row[start : start + rng.randint(3, 5)] * rng.randint(1, 3)).strip()
        yield "".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(n))
        yield " ".join(rng.choice("abcdefgsx") for _ in range(n))
        syllables = [
            rng.choice(("bla", "flib", "gro", "zub", "wug", "mip", "snor", "quav", "tro", "plee")) for _ in range(4)
        ]
        yield f"{syllables[0]}{syllables[1]} {syllables[2]}{syllables[3]}"
        yield "".join(rng.choice("?!.,;#%&*") for _ in range(rng.randint(2, 6)))
        yield "".join(rng.choice("0123456789") + rng.choice("abcxyz") for _ in range(rng.randint(2, 4)))


def _doings() -> list[tuple[str, str]]:
    """What somebody is doing, and of it the words to take up: ("going to ", "the beach")."""
    found = []
    for line in _DOINGS.strip().splitlines():
        start, contents = re.fullmatch(r"(.*)\{(.*)\}", line).groups()  # type: ignore[union-attr]
        verb, article = re.fullmatch(r"(.*?)((?:the |a )?)", start).groups()  # type: ignore[union-attr]
        found += [(form, article + content) for form in expand(verb) for content in contents.split("|")]
    return found


# Kinds whose forms tell the content whatever it is: training fills them with blended words too, so that it learns to copy.
_BLENDED = {
    "introduction": 400,
    "likes": 150,
    "dislikes": 150,
    "tastes": 150,
    "favorite": 100,
    "origin": 200,
    "job": 150,
}


@functools.cache
def _blended(name: str) -> list[str]:
    every = {word for kind in _KINDS.values() for word in kind.words}
    before = {"favorite": "favorite ", "job": "a "}.get(name, "")
    seen = [word for word in _KINDS[name].words if in_split(word, "train", SHARES)]
    made = blends([word.removeprefix(before) for word in seen], _BLENDED[name], f"small_talk, {name}")
    return [text for word in made if (text := before + word) not in every and " " not in word]


@functools.cache
def _ours(split: str) -> tuple[Row, ...]:
    return tuple(row for name in _KINDS for row in _our_rows(name, split))


def _our_rows(name: str, split: str) -> Iterator[Row]:
    kind, seen = _KINDS[name], set()
    for form, before, content in _filled(name, split):
        wording = form.replace("*", before + content)
        key = key_of(wording)
        if not in_split(key, split, SHARES):
            continue
        rng = random.Random(f"small_talk {wording}")
        for i in range(1 if content else _SURFACES):
            led = rng.choice(_OPENINGS) if kind.led and rng.random() < 0.5 else ""
            question = as_typed(wording if not led or i % 2 else led + wording, rng) if name != "nonsense" else wording
            at = question.lower().rfind((before + content).lower())
            typed = question[at + len(before) : at + len(before + content)] if content else ""
            if typed.lower() != content.lower() or question in seen or key_of(question) != key:
                continue
            seen.add(question)
            yield _row(name, key, question, typed, "ours")


def _filled(name: str, split: str) -> Iterator[tuple[str, str, str]]:
    """Forms with what to fill in: words before the content, and the content. Only those of the split."""
    if name == "nonsense":
        yield from ((mash, "", "") for mash in dict.fromkeys(_mash()))
        return
    forms = dict.fromkeys(form for pattern in _KINDS[name].ours.strip().splitlines() for form in expand(pattern))
    if name not in _WITH_CONTENT:
        yield from ((form, "", "") for form in forms)
        return
    words = _doings() if name == "activity" else [("", word) for word in _KINDS[name].words]
    # There are four times of day only: they are in every split, in forms that are not.
    words = [(before, word) for before, word in words if name == "day_greeting" or in_split(word, split, SHARES)]
    if split == "train" and name in _BLENDED:
        words += [("", word) for word in _blended(name)]
    for form in forms:
        if in_split(form, split, SHARES) or name == "day_greeting":
            yield from ((form, before, word) for before, word in words)


def _row(name: str, key: str, question: str, content: str, source: str) -> Row:
    answer = content.lower() or _KINDS[name].demonstrations[0]
    return {"key": key, "question": question, "answer": answer, "kind": name, "source": source, "content": content}


# ---- people's own phrasings

_BLOCKED = re.compile(
    r"sex|porn|fuck|shit|bitch|nigg|\bfag|\bgay|lesb|\brap(?:e|ing|ist)|kill|suicid|damn|\bhell\b|\bass\b|asshole|\bdick|"
    r"\bcock\b|boob|naked|nude|drunk|\bdrug|weed|nazi|hitler|\bjew|muslim|islam|trump|retard|whore|slut|crap|penis|vagin|"
    r"\bcum\b|murder|terroris|racis|\bhoe\b|pedo|abus|\bbeer|alcohol|vodka|hooker|strip|\btits?\b|\bbutt\b|virgin|cuddl|"
    r"kiss|sexy|\bhot\b|sudicid|cancer|abort|republican|democrat|obama|wtf|\bpoo|\bfart|\bpee\b|marij|stalk|slave|"
    r"\bgod\b|jesus|\bdie\b|dead|death|\bmormon|\bblack\b|\bracial|\bcrip|\bpiss|\bbloody|\bgun|bomb|\bwtf|lmfao",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[A-Za-z0-9 ,.!?'\"():;~/^<=|\[\]*-]+")
_PRIVATE = re.compile(r"\d{3}|www|http|\.com|\.net|@")
_MASH_WORD = re.compile(
    r"[asdfghjkl]{4,}|[bcdfghjklmnpqrstvwxz]{4,}|([a-z])\1{3,}|[qwertyuiop]*(?:qwer|wert|rtyu|yuiop)\w*"
)
_NO_MASH = set(
    """
hmmm hmmmm mhmm lmfao rofl dads gals lads fall falls glass grass class flash salad alas slash asks hall halls flask dash half
salsa saga all alaska dallas add adds ask glad has had gas gag sad dad lad lass lag ash fad jas haha hahaha hahah hahahaha
shh shhh brrr pfft psst grrr pssst tbh ttyl lgbt xoxo html mmmm hahas ahah ahaha ahahah lala haaa aaaa aaah fajak hash fads
sash saas lash alga gala fala kafka hagl gaff fjall fads slag shall shags laga shag gash flag flags jags skald flak
shazam fjd falafl lol aah ahh aha aaahh ahhh ahhhh haa gah ah agh aagh bahaha dash asdfmovie adds
""".split()
)
_MASH = re.compile(
    r"(?:asdf?|sdf|df|dsf|fds|asd|fa|ff|dd|jkl|fas|dfs|sd|ad|ds|fd|sdfg|as|qwerty|sdfsdf|asdfa|abc|abcd|[a-z])"
    r"(?: (?:asdf?|sdf|df|dsf|fds|asd|fa|ff|dd|jkl|fas|dfs|sd|ad|ds|fd|as|ab|[b-hj-z]|a))*"
)


def _is_mash(text: str) -> bool:
    """Whether a text is only keys pressed, or one letter again and again."""
    words = re.findall(r"[a-z]+", text.lower())
    if (
        not words
        or not re.fullmatch(r"[A-Za-z ;,.!?]+", text)
        or text.strip(" .!?").lower() in ("a", "i", "k", "u", "y", "ad")
    ):
        return False
    if len(words) == 1 and (words[0] in ("as", "ad", "k", "b", "o", "x") or len(words[0]) == 1):
        return words[0] in "bcdefghjlmnpqrstvwz"
    if _MASH.fullmatch(" ".join(words)) and len("".join(words)) > 1:
        return True
    known_word = re.compile(
        r"(?:b|m)?(?:a?h+a+)+h*|[hm]+|(?:e?h+e+)+h*|a+h+|o+h+|l+o+l+|lmf?ao+|a+w+|z+|u+gh+|y+a+s*|w+o+w*|h+"
    )
    return all(_MASH_WORD.fullmatch(word) and word not in _NO_MASH and not known_word.fullmatch(word) for word in words)


_GROUP = re.compile(r"\((?!\?)|\(\?P<\w+>")


@functools.cache
def _sorter() -> tuple[re.Pattern[str], dict[str, list[int]]]:
    """One pattern for all kinds, a group each, and which groups within are the kind's content."""
    parts, contents, number = [], {}, 1
    order = sorted((name for name in _KINDS if _KINDS[name].people), key=_PRECEDENCE.index)
    for name in order:
        inner = len(_GROUP.findall(_KINDS[name].people))
        parts.append(f"(?P<{name}>{_KINDS[name].people})")
        contents[name] = list(range(number + 1, number + 1 + inner))
        number += 1 + inner
    return re.compile("|".join(f"{part}(?![^\n])" for part in parts)), contents


# The first that fits decides: "good, how are you?" asks, and "I love talking to you" is praise, not a taste.
_PRECEDENCE = (
    *"greeting day_greeting presence farewell thanks how_are_you fine meeting laughter person abilities help apology".split(),
    *"feeling_good feeling_bad praise complaint reaction back_question doing personal favorite tastes origin job".split(),
    *"activity dislikes likes introduction acknowledgement".split(),
)
_NO_JOB = re.compile(
    r"\b(?:bit|lot|fan|mess|little|huge|big|good|bad|great|sucker|while|fool|joke|girl|guy|boy|man|woman|little|year|part|kid"
    r"|child|couple|person|human|few|ton|place|team|bot|robot|computer|way|class|dating|long|really|very|moderate|lizard|loser"
    r"|hour|point|\w+ed|thing|group|similar|different|living)$|\b(?:huge|big|bit|pretty|really|very|bad|little|such)\b"
)
_JOB = re.compile(
    r"(?:.*\b)?(?:major|student|freshman|freshmen|sophomore|junior|senior|teacher|engineer|designer|nurse|developer|manager"
    r"|assistant|tutor|writer|artist|musician|programmer|reader|runner|gamer|dancer|singer|doctor|lawyer|receptionist|janitor"
    r"|custodian|technician|researcher|scientist|waiter|waitress|server|cashier|barista|baker|cook|chef|farmer|lifeguard|intern"
    r"|missionary|mom|dad|mother|father|parent|twin|pianist|violinist|photographer|filmmaker|animator|accountant|editor|coach"
    r"|vegetarian|vegan|introvert|extrovert|nerd|geek|psychologist|therapist|dentist|pilot|actor|actress|model|ta|supervisor"
    r"|secretary|trainer|dog person|cat person|people person|morning person|night owl|professor|lawyer|biologist|chemist"
    r"|historian|librarian|mechanic|consultant|analyst|architect|graduate|swimmer|climber|hiker|traveler|photographer|poet"
    r"|movie star|superhero|hero|millionaire|president|princess|wizard|jedi|pirate|astronaut|ninja|detective|spy|surgeon"
    r"|veterinarian|vet|minor|fisherman|drummer|guitarist|cellist|composer|director|producer|journalist|cowboy|socialist|chemist"
    r"|translator|interpreter|salesman|firefighter|paramedic|carpenter|plumber|painter|driver|skier|cyclist|gardener)"
)
_MAYBE_LAUGHTER = re.compile(r"\bpraise\b")


def _sorted(text: str) -> tuple[str, str] | None:
    """Kind and content of an utterance, or None where it is of none, or its content is not to be taken up."""
    if _is_mash(text):
        return "nonsense", ""
    words = _words_of(text)
    if not 1 <= len(words) <= 14:
        return None
    pattern, contents = _sorter()
    for cut in _cuts(words):
        plain = " ".join(word.plain for word in cut)
        match = pattern.match(plain)
        if not match:
            continue
        name = next(name for name in _PRECEDENCE if name in contents and match.group(name) is not None)
        if name not in _WITH_CONTENT:
            return name, ""
        group = next(group for group in contents[name] if match.group(group) is not None)
        start = plain[: match.start(group)].count(" ")
        held = cut[start : start + match.group(group).count(" ") + 1]
        content = _held(name, text, held)
        return (name, content) if content else None
    return None


def _held(name: str, text: str, words: Sequence[_Word]) -> str:
    """The content of an utterance of a kind, as typed, or nothing."""
    plain = " ".join(word.plain for word in words)
    typed = text[words[0].start : words[-1].end]
    if name == "introduction":
        is_name = plain.title() in _ALL_NAMES
        return typed if is_name and re.fullmatch(r"[A-Za-z]+", typed) else ""
    if name in ("feeling_good", "feeling_bad", "day_greeting"):
        return typed if re.fullmatch(r"[A-Za-z]+(?: [A-Za-z]+)*", typed) and plain != "god" else ""
    if name == "job":
        return typed if _JOB.fullmatch(plain) and not _NO_JOB.search(plain) and "  " not in typed else ""
    if name == "favorite" and words[0].start == words[-1].start:
        return ""
    return _content(text, words)


_ALL_NAMES = frozenset(_NAMES)


@functools.cache
def _people(path: str) -> dict[str, tuple[Row, ...]]:
    """The rows of people's own phrasings by split. Raises `UserError` where the file is missing or of another form.

    To sort 220,000 utterances takes ten seconds, and each process of a recipe would do it again: what was found is kept
    in a file beside the dataset, for this very dataset and this very module.
    """
    where = f"small_talk: people: {path}"
    try:
        data = Path(path).read_bytes()
    except OSError:
        raise UserError(f"{where}: no such file: `make data` fetches the recipes'") from None
    digest = hashlib.sha256(data + Path(__file__).read_bytes()).hexdigest()
    kept = Path(f"{path}.small_talk.json")
    try:
        before = json.loads(kept.read_text(encoding="utf-8"))
        if before["digest"] == digest:
            return {split: tuple(rows) for split, rows in before["rows"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not kept yet, or not whole
    found = _sort_people(data, where)
    with contextlib.suppress(OSError):  # a folder that cannot be written costs the time again, and nothing else
        write_atomically(kept, json.dumps({"digest": digest, "rows": found}))
    return found


def _conversations(data: bytes, where: str) -> list[list[str]]:
    """What was said, in its order, in each conversation."""
    try:
        conversations = json.loads(data)
    except ValueError as error:
        raise UserError(f"{where}: expected JSON: {error}") from None
    try:
        return [
            [message["text"] for turn in conversation["messages"] for message in turn]
            for conversation in conversations.values()
        ]
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{where}: expected chitchat_dataset's conversations, each with `messages`") from None


def _chats(seed: int, n: int, people: str | None) -> list[str]:
    if people is None:
        raise UserError("small_talk: chats are people's own: set `people` to chitchat_dataset's dataset.json")
    rows = _people(people)
    held_out = {row["key"] for split in ("validation", "test") for row in (*rows[split], *_ours(split))}
    told = _conversations(Path(people).read_bytes(), f"small_talk: people: {people}")
    random.Random(f"small_talk, chats {seed}").shuffle(told)
    pages = []
    for texts in told:
        lines = [line for text in texts if (line := _plain_line(text)) and key_of(line) not in held_out]
        page = "\n".join([*lines, ""])[:_LONGEST_PAGE].rpartition("\n")[0]
        if page.count("\n") >= _FEWEST_LINES:
            pages.append(page)
        if len(pages) == n:
            return pages
    raise UserError(f"small_talk, chats: {n} pages asked for, {len(pages)} exist: ask for fewer")


def _plain_line(raw: str) -> str:
    """An utterance in one line, or nothing where it holds what nobody is to repeat."""
    text = " ".join(raw.replace("\u2019", "'").replace("\u2018", "'").split())
    fits = text and _PLAIN.fullmatch(text) and not _PRIVATE.search(text) and not _BLOCKED.search(text)
    return text if fits else ""


# How else people may have typed it: the question, and the content, which is spelled likewise.
_RESPELLED: tuple[Callable[[str], str], ...] = (
    str.lower,
    str.upper,
    lambda text: text.rstrip(" .!?").lower(),
    lambda text: text[:1].upper() + text[1:].rstrip(" .!?") + "!",
    lambda text: "Haha, " + text,
    lambda text: "Well, " + text[:1].lower() + text[1:],
    lambda text: "oh " + text.lower(),
    lambda text: "so " + text.rstrip(".!"),
    lambda text: text.rstrip(" .!") + " haha",
    lambda text: text.rstrip(" .!") + " lol",
    lambda text: text.rstrip(" .!?") + " :)",
)
_SPELLINGS = 2  # more ones of each of people's train rows, where they are sorted as it is


@functools.cache
def _theirs(people: str, split: str) -> tuple[Row, ...]:
    """People's rows of a split; in training also in other spellings, as they write the same in many."""
    rows = _people(people)[split]
    if split != "train":
        return rows
    found = {row["question"]: row for row in rows}
    for row in rows:
        for way in random.Random(f"respelled {row['question']}").sample(_RESPELLED, _SPELLINGS):
            question = way(row["question"])
            if question not in found and key_of(question) == row["key"]:
                kind = _sorted(question)
                if kind and kind[0] == row["kind"] and kind[1].lower() == row["content"].lower():
                    found[question] = _row(kind[0], row["key"], question, kind[1], "people")
    return tuple(found.values())


def _sort_people(data: bytes, where: str) -> dict[str, tuple[Row, ...]]:
    texts = dict.fromkeys(text for told in _conversations(data, where) for text in told)
    found: dict[str, list[Row]] = {split: [] for split in ("train", "validation", "test")}
    surfaces: dict[str, int] = defaultdict(int)
    seen = set()
    for raw in texts:
        if len(raw) > 72 or raw.count(" ") > 11:
            continue
        text = _plain_line(raw)
        if not text or text in seen:
            continue
        seen.add(text)
        kind = _sorted(text)
        if not kind:
            continue
        key = key_of(text)
        surfaces[key] += 1
        if surfaces[key] > _SURFACES:
            continue
        split = next(split for split in found if in_split(key, split, SHARES))
        found[split].append(_row(kind[0], key, text, kind[1], "people"))
    return {**{split: tuple(rows) for split, rows in found.items()}, "drawn": tuple(_drawn())}


# ---- more wordings for training, drawn from the patterns that sort people's

_ANY = "\u00a7"  # stands for any word
_DRAWS = 800  # of each kind's pattern; about half are kept
_SHORT = (
    *(("i am", "i'm im"), ("you are", "you're youre ur"), ("what is", "what's whats"), ("do not", "don't dont")),
    *(("it is", "it's its"), ("that is", "that's thats"), ("can not", "can't cant"), ("did not", "didn't didnt")),
    *(
        ("how is", "how's hows"),
        ("let us", "let's lets"),
        ("have not", "haven't havent"),
        ("does not", "doesn't doesnt"),
    ),
)
_ASKS = re.compile(
    r"(?:and |but |so )?(?:what|who|where|how|which|when|are|do|does|can|could|is|have|did|will|would)\b"
)


def _free(name: str) -> list[str]:
    """Words for the places that a kind's pattern leaves free: those of training."""
    words = [*_KINDS[name].words, *(_blended(name) if name in _BLENDED else ())] or _w(_THINGS)
    bare = {word.split()[-1].lower() for word in words if in_split(word, "train", SHARES)}
    return sorted(word for word in bare if word.isalpha() and in_split(word, "train", SHARES))


def _finite(pattern: str) -> str:
    """The pattern with a mark for each word that it leaves free, and nothing in it more than twice."""
    pattern = re.sub(r"\\w\+|\.(?:\{\d+,\d+\}|\+)", _ANY, pattern).replace(".*", f"{_ANY}?")
    return re.sub(r"(?<=[\w)])\+", "{1,2}", re.sub(r"(?<=[\w)])\*", "?", pattern))


def _as_typed(plain: str, rng: random.Random) -> str:
    """Plain words as somebody may type them: contracted, with capitals and marks, or without."""
    for long, short in _SHORT:
        if rng.random() < 0.6:
            plain = re.sub(rf"\b{long}\b", rng.choice(short.split()), plain)
    chance = rng.random()
    if chance < 0.05:
        plain = plain.upper()
    elif chance < 0.7:
        plain = re.sub(r"\bi\b", "I", plain)
        plain = plain[:1].upper() + plain[1:]
    return plain + (rng.choice(("?", "?", "")) if _ASKS.match(plain.lower()) else rng.choice((".", "!", "")))


def _drawn() -> list[Row]:
    """Rows of train in wordings that the kinds' patterns allow, whoever may have typed them."""
    found: dict[str, Row] = {}
    for name in _KINDS:
        rng = random.Random(f"small_talk, drawn {name}")
        pattern, words, draws = _finite(_KINDS[name].people), _free(name), Rstr(rng)
        for _ in range(_DRAWS if pattern else 0):
            filled = re.sub(_ANY, lambda _: rng.choice(words), draws.xeger(pattern))  # noqa: B023 - called at once
            question = _as_typed(" ".join(filled.split()), rng)
            key = key_of(question)
            if len(question) > 72 or question in found or not in_split(key, "train", SHARES):
                continue
            kind, content = _sorted(question) or ("", "")
            if kind == name and content.lower() not in _held_out():
                found[question] = _row(name, key, question, content, "pattern")
    return list(found.values())


@functools.cache
def _held_out() -> frozenset[str]:
    """Contents that our own rows of the other splits ask about, of which training may not tell."""
    rows = [row for split in ("validation", "test") for row in _ours(split) if row["kind"] != "day_greeting"]
    return frozenset(row["content"].lower() for row in rows if row["content"])


# ---- the task


def rows(
    split: str, seed: int, n: int, people: str | None = None, intents: Sequence[str] | None = None, share: float = 0.5
) -> list[Row]:
    """Openings of small talk, one of each intent in turn.

    With `people`, the path of chitchat_dataset's dataset.json, at least `share` of any first rows are people's own
    utterances, and of the rest of training's half are drawn from the patterns that sort these. `intents` leaves only these kinds. Raises `UserError` for a file, an intent or a share that cannot be,
    and where there are fewer rows.
    """
    known(split, ("train", "validation", "test"), "split")
    if intents is not None:
        if isinstance(intents, str) or not intents:
            raise UserError(f"small_talk: intents: expected a list such as [greeting, thanks], got {intents!r}")
        for intent in intents:
            known(intent, list(_KINDS), "small_talk: intent")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(f"small_talk: share: expected a number from 0 to 1, got {share!r}")
    wanted = set(intents or _KINDS)
    theirs = [row for row in _theirs(people, split) if row["kind"] in wanted] if people else []
    asked = {row["question"] for row in theirs}
    ours = [row for row in _ours(split) if row["kind"] in wanted and row["question"] not in asked]
    where = f"small_talk, {split}"
    if not people:
        return draw(ours, where, seed, n)
    # Of the first i rows, so many are people's, so that n rows begin as fewer do.
    enough = min(n, math.floor(len(theirs) / share) if share else n, len(ours) + len(theirs))
    if n > enough:
        raise UserError(
            f"{where}: {n} rows asked for, {enough} distinct ones exist with a share of {share} of people's: "
            "ask for fewer, or for a smaller share"
        )
    first, second = draw(theirs, where, seed, len(theirs)), draw(ours, where, seed, len(ours))
    if split == "train":
        drawn = [row for row in _people(people)["drawn"] if row["kind"] in wanted]
        pairs = itertools.zip_longest(second, draw(drawn, where, seed, len(drawn)))
        second = list({row["question"]: row for pair in pairs for row in pair if row}.values())
    taken = [math.ceil(i * share) for i in range(n + 1)]
    merged = []
    for i in range(n):
        mine = i - taken[i]
        merged.append(first[taken[i]] if taken[i + 1] > taken[i] or mine >= len(second) else second[mine])
    return merged


def prompt(row: Row) -> list[Message]:
    """The question as one user turn."""
    return ask(row)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """One of the kind's answers, with the content as the user typed it."""
    known(style, STYLES, "small_talk: style")
    return rng.choice(_KINDS[row["kind"]].demonstrations).format(c=row["content"])


@functools.cache
def _cores() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(kind.core, re.IGNORECASE) for name, kind in _KINDS.items()}


_PERSON = re.compile(r"\bi(?: am|'m) (?:a |an )?(?:real )?(?:person|human|man|woman)\b", re.IGNORECASE)


def score(row: Row, completion: str) -> float:
    """1.0 where a completion says what its kind of opening needs, with the content, and nothing of another kind.

    A few kinds are served by the answers of others too. At most 30 words. A content comes once, right after the kind's
    core and before a mark; case does not count.
    """
    text = " ".join(completion.split())
    if not text or len(text.split()) > _MOST_WORDS or _PERSON.search(text) or key_of(text) == key_of(row["question"]):
        return 0.0
    cores = _cores()
    told = {name for name, core in cores.items() if core.search(text)}
    if told - {row["kind"], *_SERVED_BY.get(row["kind"], ())}:
        return 0.0
    if row["kind"] not in told:
        return float(bool(told))
    found = list(cores[row["kind"]].finditer(text))
    if not found or not row["content"]:
        return float(bool(found))
    taken_up = re.compile(re.escape(row["content"]) + r"(?=[.,!?]| to you\b| too\b|$)", re.IGNORECASE)
    return float(len(found) == 1 and bool(taken_up.match(text, found[0].end())))


def documents(seed: int, n: int, people: str | None = None, chats: bool = False) -> list[str]:
    """Pages of a phrase book: three to six exchanges of train rows, question and answer on lines of their own.

    With `chats` people's own conversations in their place, an utterance a line, without those that a validation or test
    row asks. Raises `UserError` where there are fewer, or none as `people` is not given.
    """
    if chats:
        return _chats(seed, n, people)
    pool = [*_ours("train"), *(_people(people)["train"] if people else ())]
    by_kind: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in pool:
        by_kind[row["kind"], row["source"]].append(row)
    kinds, rng = list(by_kind.values()), random.Random(f"small_talk, documents {seed}")
    pages = []
    for _ in range(n):
        page = [rng.choice(rows) for rows in rng.sample(kinds, rng.randint(3, 6))]
        pages.append("\n\n".join(f"{row['question']}\n{demonstration(row, rng)}" for row in page))
    return pages
