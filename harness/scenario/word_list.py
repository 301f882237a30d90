"""Common English words, as synthetic prompts are made of."""

from __future__ import annotations

_TEXT = """
able about above account across action active actual after again against age agree air all allow alone along already
also always among amount and animal another answer any appear apply area argue arm army around arrive art article ask
attack away baby back bad bag ball bank bar base battle bear beat beautiful because bed before begin behind believe
best better between beyond big bird black blood blue board boat body book born both box boy break bridge bring brother
brown build building burn business but buy call camp capital car card care carry case catch cause cell center century
certain chair chance change character charge check child choice choose church city claim class clear close coast code
cold collect college color come common company compare complete computer condition consider contain continue control
cook cool copy corner cost could count country course court cover create cross crowd culture cup current customer cut
daily dance danger dark data daughter day dead deal death decide deep degree describe design desk detail develop
device die differ difficult dinner direct doctor dog door double down draw dream dress drink drive drop dry during
each early earth east easy eat edge effect eight either electric else empty end energy engine enjoy enough enter equal
even evening event ever every exact example expect experience explain eye face fact fair fall family famous far farm
fast father fear feed feel few field fight figure fill film final find fine finger fire firm first fish five floor
flow flower fly follow food foot force foreign forest forget form forward four free fresh friend from front fruit full
fun future game garden gas general get girl give glass go gold good government grand grass gray great green ground
group grow guess gun hair half hand happen happy hard have head health hear heart heat heavy help here high hill
history hit hold hole home hope horse hospital hot hour house how huge human hundred hunt hurry ice idea image include
increase indeed industry inside interest iron island issue job join judge jump just keep key kill kind king kitchen
know lake land language large last late laugh law lay lead learn least leave left leg length less letter level lie
life lift light like limit line list listen little live local long look lose lost lot loud love low machine main major
make man many map mark market matter may mean measure meat medical meet member memory method middle might mile milk
million mind mine minute miss model modern moment money month moon more morning most mother mountain mouth move movie
much music must name nation natural near need network never new news next night nine none north note nothing notice
number ocean of off offer office often oil old once one only open order other our out over own page paint pair paper
parent park part party pass past path pay peace people perfect perhaps period person phone picture piece place plan
plane plant play please point police poor popular position possible power practice prepare present president press
pretty price print private problem process produce product program promise protect prove public pull purpose push put
quality question quick quiet quite race radio rain raise range rate rather reach read ready real reason receive record
red region remain remember report rest result return rich ride right ring rise river road rock role roll room root
round rule run safe sail salt same sand save say scale school science score sea search season seat second section see
seem sell send sense sentence separate serve service set seven several shape share sharp ship shoe shop short should
shoulder show side sign silver similar simple since sing sister sit six size skill skin sky sleep slow small smile
snow social soft soil soldier some son song soon sort sound south space speak special speed spend spring square staff
stage stand star start state station stay step still stone stop store storm story straight strange stream street
strong student study style subject success such sudden sugar summer sun support sure surface system table take talk
tall task teach team tell ten term test than thank that then there thing think third thousand three through time tiny
to together tomorrow tool top total touch toward town track trade train travel tree trip trouble true trust try turn
twelve two type under understand unit until up use usual valley value various very view village visit voice vote wait
walk wall want war warm wash watch water wave way wear weather week weight well west wheel when where while white who
whole why wide wife wild will win wind window winter wish with woman wonder wood word work world worry would write
wrong yard year yellow yes yet young zero
"""
WORDS = tuple(_TEXT.split())
