"""Words that are also names: which ones say nothing by themselves, and what around a word tells that it is a name.

All folded and in lower case (`folding.fold_name`). Written by hand: English, German, French, Spanish and Dutch words
that people carry as a given or family name, and the vocabulary of reports as far as it occurs among names. A word that
is missing here is searched for everywhere, so the worst that an omission does is a hit too many.
"""

from __future__ import annotations

__all__ = [
    "COMMON", "EPONYMS", "EPONYM_LINKS", "EPONYM_NOUNS", "FUNCTION", "HONORIFICS", "MEDICAL", "MONTH_NAMES",
    "NAME_KEYWORDS", "NO_NAMES", "OWN_PARTICLES", "PARTICLES", "PERSON_AUXILIARIES", "PERSON_VERBS",
    "PLAIN_HONORIFICS", "PLACEHOLDERS", "RARE", "SUFFIXES", "words",
]  # fmt: skip


def words(text: str) -> frozenset[str]:
    """The words of a list written as text."""
    return frozenset(text.split())


# Grammar: never a name in lower case, not even beside another part of the name.
FUNCTION = words("""
a an and are as at be been but by can could did do does for from had has have he her him his i if in into is it its
me might more most must my no nor not of off on or our out over per she should so some such than that the their
them then there these they this those to too under up upon us very was we were what when where which while who
with within without would you your all any both each few many much none one two three only other own same see also am
im ja je la le les los las un une uno una el al ab auf aus bei das dem den der des die ein eine er es fur ich ist man
mit nach nicht noch oder sich sie sind um und uns vom von vor war wie wir zu zum zur au aux avec ce ces dans de du en
est et il ils ou par pas pour que qui sa se ses si son sur con como lo mas muy por su sin y o da del aan dat een het
hij met naar niet nog om ook op te tot uit van voor wel wij zijn
""")

# Everyday words and months: a name only where something around them says so.
COMMON = words("""
seen areas age area severe tobacco end overlie below levels larger re lat unavailable section number anchors pod core
range nones doctor service record balloon comment marking able act ages air and angle apr april arch arrow aug august
average aware balance band banner bar barrel bars base bay bays beam bean bench bend bent best better big billing
bishop bit black blank block blue bolt border born both bottom bow box brace branch brand brief bright brisk broad
brown buckle builder bull bump bunch burden burn burns button cage call calm can cap care carrier carter case cast cat
cause chain chair chance change charge chart chase choice church circle city clark clean clearly cliff clock close
cloud coarse coat code coin cold collar come common constant cook cool copper cord corner cost cotton couch count
counter cover crack crisp cross crown crystal cup curtain daily dark date dates daughter day days deal dear dec
december denied denies depression dial die dim dip divine dock dog door dot draw drift drive driver drop dry due dull
dusty early east easy edge elder empty english even evening ever every expert fail failed fair fall falling falls
family fan far farm farmer fast feather feb february feels few field fields fig figure figures files fill fine fire
firm first fish flag flame flat flood floor fluke foil fold folds follow force ford form found frame french fresh
friday friend front full fuller further game garden gate general gentle german gift given glass glasses go goal gold
golden good grade grain grand graph grass great green grey grip gross ground group grow growth guard guide gum gun
hall ham hammer happy hard harm harsh heads hearing heat held help high hill hold hole hollow home hood hook hope horn
hose host hour house how huge ill image inch independence iron irons island issue jan january jet job join judge jul
july jun june just keen keep key kind kit knot lack lady lake lamp land lane last late latter lay lead leader leaf
league lean leave lent less lesser level life light like lime limit link live lively living load local lock long
longer look loose loss lot lots lucky made mail main major make maker man mar march mark marked marks mash mask mast
match mate maximum may mean means medium mental mid middle mile mill mind mist mix model modest monday money month
moon more morning moss most mould mount near neat need net never new newly news next nice nickel night noble none noon
north not note notes nov november now numbers nurse oak oct october odd old olive one open orange order orient out
overall own owner pack page pages pain painter pair pale pane part parts pass past paste patch patience patient peak
peaks peal pearl pearls pen percent perch perfect person petty phase pick pie pine pink pipe place plain plant play
please plum plump point polar pole polish pool poor pop porter position post pot pound powder power powers present
press pressure price primary prime prior prize proper proud pull pump purple purse quarter quick quill quit race rail
rain raised ram rank rapid rare rash rate raven ray reach read reader ready real rear reason red reef regal regular
relief rest reveal ridge rim ring rise river road rock roll roof room rope rose row rule rush rushing rust rusty
saddle safe sale salt same sand satin saturday save saw say scale scales scant scarce scarlet school score scout
screen seal season seats second send senior sense sept september serious set setting seven several shade shades shadow
shake shakes shallow shape shed shell shelter shield shields shift shirt shock shoe shore short shorter shot show
showers shown shows shy side sides silent silver simple single sit six size skill slack sleep slim slope slow smaller
smart smear smoke smoker smooth snap snow sol solid solo some sort sound source south spare spark spear speck speed
spell spike spin spirit split spot spots spray spread spring spur square squires stack staff stage stain stamp stand
standard stands staples star stark start state states station stay steel steep stem step sterling stern steward stick
sticks stiff still stock stop storm story straight strand strange stray stream street strength stretch strike string
strip strong stub study stump sturdy style sub such sugar suit sum summer sun sunday sure surface sweat sweet swell
swift swim swimmer swing table tack tail take tall tally tan tank taper tart team tear tell temper temple ten tender
tent term test thanksgiving thick thin thorn thread three thrush thursday tick tide tight tile till time times tiny
tired title toll tone top total touch tower town traces track train transit tree trend trial trim trip tripe true
truly trunk trust truth tuck tuesday turn turns twin twist two type unity upright urban use utter vague vane varied
vast vault verge very vest via victory virgin visible vital voice wait walk walker walking walks want ward ware warm
waste watch water wave way ways weak web week weeks welcome well west western wet wheel whip white whole wide wild
will willing win wind window wine wing wings winter wire wise wish wit wolf wonder wood wool word words work worker
works worse worst worth yard yards year years yeast yellow yes yield young younger youngest zero abril agosto amable
ancho aout augustus avril bach barra barrera baum bello berg bergen blanc blanco blum bock boer bois bon bonne bos
bosque braun bravo bueno busch cabello cabeza calle calvo camino campo campos casa castillo cerro chevalier claro
clement cordero corona corto costa cruz cuello cuesta dam de delgado dezember diciembre dick dijk dulce duro eik enero
engel ernst espina estrella febrero februar februari feliz fevrier fink fisch fleur flores fontaine frank freund fromm
fuchs fuente gallo ganz garza gentil gordo grande gris groen groot guerra gut gute haan haas hahn hart hase haus heil
heilig herbst herr herz hidalgo hierro hirsch hoch hoek hof hoffnung holz hond hoyo huerta hund iglesias izquierdo
jager januar januari janvier jardin jong jonge juillet juin juli julio jung junge juni junio juste kaiser kalb kalt
kammer kamp kern kleine klug koch kohl kok konig koning kopf korn kraft krank kranz kraus kraut krebs kreis kreuz kron
krug kunst kunz kurz kwast laan lagarto lago laguna lamm lang lange leal leeuw leger leon licht lieb linde lobo longue
lowe luft luna luz maan maart madera mai maison malo mann manso marin markt mars martel marz marzo masse mata mayo
mayor meer mehl mei menor mercado mieux mol molen mond montana moulin nagel nase nebel neu nieves noir normand
novembre noviembre nuevo nuss ochs octobre octubre ohr oktober oliva ost oud palacio paloma pardo paz petit petite
pfau pfeffer pfeil piedra pino plaza poitrine prado prins profit puente puerta rad rau reich rein renard rey ribera
rico rio ritter roche rohr rojo roman rood roque rot roth rubio rueda ruelle ruhe ruiter salle sauer sauvage schaap
schaf scharf schatz schein schild schipper schmal schmied schnell schon schuh schutz schwer seide septembre septiembre
sierra slot smal smit snel soler sommer sonntag spat sperling spiegel spitz stahl sterk stich stolz storch strauss
streit strom sturm tag tak tal teich teufel tisch tod toro torre trost unruh valle vaquero veld verde verdugo vert
vidal vieux villa vivas viviente vogel voll vos wald wasser weg weich wein weiss weit welt wenig wiese winkel wirth
wolff wolke wunder wurm zahn zander zee zeit zimmer zorn zucker zwaan zwart abszess ader auge barriga bauch becken
been bein bekken bil blaas blase bloed blut boca borst borstkas bot bouche bras brazo bruch brust brustkorb buik
cadera cara ceja cheville cil codo coeur corazon corps costado costilla cote cou coude cuisse darm dedo dedos dent
diente dij doigt dos duim elleboog enkel epaule espalda estomac estomago foie frente fuss gal galle garganta gehirn
gelenk genou gewricht gorge haar hak hals hanche hande haut heup hiel higado hirn hombro hoofd hueso huesos huft hufte
huid jambe joue kaak keel kehle kiefer kin knie knochen korper labio langue leber lengua lever levre lippe longen
lunge lymphe maag magen mano manos mejilla menton milz mollet mund muskel muslo nabel nariz navel nek nerv neus nez
nier niere nuque oeil oido ojo ojos oog oor oreille oreja orteil os peau pecho pees pelo pied piel pierna pies platte
poing pols poumon pulmon rand raum rinon rippe rippen rodilla rotule rucken rug sang sangre schadel schatten scheibe
schouder schulter sehne sein seno slokdarm spalt stein steine stirn talon tand teen tete tobillo tong torax una veine
vene ventre vessie vinger voet wang wange wervel wirbel wunde zahne zehe zunge gray iris palm swan temporal shaft
klein
""")

# Words that reports hardly ever hold: a name as soon as they have a capital letter.
RARE = words("""
abbey ace acre airs alder ale alley allure almond alto ambrose ami amor ancient angel apple archer argent argue art
ash aspen aster autumn bacon ball banks bard bark barn baron barren basil bass batch beach beacon bear beard beau beck
bee bell belle berry bible bill bills birch bird blaze bliss bloom blossom bluff bold bond book booker boom boot booth
boss boston bounds bowl bowls bowman boy boys bran brandy brass brave bread breeze brick brier brighter brink bristle
bristol brittle brook brooks broom browning brush buck bud bunk burrow bush butcher butler butter buttons byrd cable
cain cake camp candy canon cape caper captain caption card carpenter cart carver cash castle cave chalk chamber
chambers champion chapel chapman charity charm cherish cherry chess chew child china cinder clay clerk clover coach
coal coast cobb cock collier comb comfort coral cork corn country court cove cow craft crane craven creek crew croft
crook crow currier curry cutter cypress dainty dame dance dancer dandy dane darling dash dawn dean deer delight deluxe
den denial deputy desert destiny devine dew diamond dill dimes dix doe dolly don done dove down drake draper dream
drew drum duck duke dun dye dyer eagle earl earnest earth easter ebony echo eden elders elm ember emerald eng era
everest fain faith falcon farrow faucet faust favor fawn felt fern ferry fiddler fielder finch fitch flanders flint
flor flora flower flowers fly foreman forest forge forth fortune fountain fox france freed freeman frost fry funk
furlong gain gale gallant gallery galley gardener gardner garland garner garnet gates gem gene genesis gentry ginger
glide glory glover goad goode goodness goose gore grace granger grant grave gravely graves gray greene greet griffin
grill grim groom grove guess guest gunn guy hail hale half hand harbor hardy harmony harp harper harvest hatch hatter
haven hawk hay hays hazel heard heath heaven hedge helm henna herald herd hero heron hills hind hinds hint hippo hobby
hock hogg holden holder holiday holly holm honey hooker hooks horne horse hull humble hunt hunter hurst hush hyde ice
ide idle indigo ink inn innocent iris irish ives ivory ivy jade jail jar jay jester jewel jewell jobs jolly journey
joy junior justice keeper keeping keys king kings kitchen kite knight knock knoll lace lad lamb lark lash lavender law
lawn laws lea ledger lee legend lemon liberty lilac lily linden ling lion list little loan lodge loft lord lore louder
love lovely loving luck luster lyon mace madden maiden mall mallow mane manger manner manor maple marble marsh marshal
martial master masters mattress max mays meadow meadows meek mellow melody mercer merchant mercy merit merry messenger
miles miller millet mills miner mint miracle moan moat mobile mole monk moody moor moose moral mountain mouse mover
mule mundane music myrtle nail name nest newton nightingale nova nun nut oakes oaks ocean olivier opal orchard otter
owl oxford paige paine palace palm palmer pansy paradise parent paris park parks parlor parrot parson parsons parting
pastor pasture pat patron pay peace peach peacock pear peck penny pepper phoenix pickle pier pike pilgrim pillow pilot
piper pitcher pitt plank player plumber plummer pluto pollard pollen pond poole pope poplar poppy porch portion posey
posh potter potts precious pride priest primrose prince proctor providence pulley pullman quail queen quest rabbit
rains ranch ranger ransom redd reeder reign remy rene revel rex rhodes rice rich richer riches riddle ride riot rivers
roan roar rob robin rocket rocks rogue rollins romance romp rook roomer rosemary roses rough rover rowe royal royalty
rude ruff ruler russet rye sable saddler sage sailor saint saints sales salmon sands sandy sapphire satchel savage
saver savior savory sawyer saxon scarlett sea seals seaman search secret self sellers sequoia serene sergeant sermon
settle settles sewer shall shank shark sharpe shaver sheen sheep shepherd sheriff shine ship shoemaker shoot silence
silk silva simmer sincere sing singer sir sizer skinner sky skylar slate slaughter sly snail sonnet sons sorrel soul
southern spain sparks sparrow speaker spears spence spice spicer spinner springer springs spruce starr stars steed
steele stepp stocks stokes stoner stout stranger straw sue sultan summers summit sunny sunshine surrey swain swallow
swan swann sword sylvan tabor talent tanner tash tate teal tempest terrace thatcher thistle thorne thrash thunder
tiger timber tinker tipper toller tom tomb topaz towers trail traveler treasure trees trice trinity trips triumph
troop trotter trout trump tulip tuna turk upton usher vale valentine valiant valley valor vance velvet verity vice
vine viola virtue vista wade wager waiter waits wake walls war warden warmth warrant warren washer waters watt waver
weaver webber weeds welch weld wells welsh wheat wheeler whisper whitehead whitehouse whiter whittle wick wilder
wildest wiley willow wills winch winds winner winters wisdom wolfe woodland woodman woods workman world worthy wrath
wreath wren wright york zeal zion
""")


# Words of reports: a capital letter in the middle of a sentence says nothing either.
MEDICAL = words("""
please abdomen acute airway angina ankle anterior aorta apex apical arm arms artery atria atrial axial axis
back barium bases
basilar bile bladder blood body bone bones bony bowel brain breast breath bronchi caliber callus cancer cannula canal
carina carotid cartilage catheter cavity cell cervical chamber cheek chest chin chronic clear clip coil colic colon
contour contrast contusion coronal cortex cortical costal course cough cranial crest cuff cyst deep degree dense
density disc disease disk distal dome dorsal drain duct ear edema effusion elbow emphysema enema exam excellent
expansion eye eyes face facet fascia fat feeling femoral femur fever fibula film finding findings finger flank flap
fluid focal foot foramen fossa fracture free frontal gall gallbladder ganglion gap gas gastric gland graft groin
grossly hair hand hands head heart heel hepatic hernia hila hilar hilum hip hips history impression incision iliac
indication infant infarct inferior inguinal intact jaw joint joints kidney kidneys kub knee knees lab labs large
larynx lateral leaflet left leg legs lens lesion ligament limb line linear lines lingula lip lipoma liver lobe lobes
low lower lumbar lumen lung lungs lymph male marker marrow mass median medicine medial mediport mesh mild minimal
minor moderate mouth mucosa muscle nail narrow nasal neck needle negative neo nerve nerves nipple nodal node nodes
nodular nodule normal nose nostril opacity oral orbit organ organs osseous palate palpable pancreas patella patent
pedicle pelvic pelvis penis phalanx pharynx pin plane plaque plate plates pleura pleural polyp port portable positive
posterior pouch process prominent pubic pulse pylorus radial radius rays rectal rectum renal rib ribs right rod rods
root round sacral sacrum sagittal sac scalp scan scapula scar screw screws septa septum series serum sharp shin
shoulder shunt sided sigmoid sinus site skin skull slight small soft space spine spinal spiral spleen splenic stable
stent sternal sternum stoma stomach stone stones strain streak subtle superior supine suture tendon testis thigh
thorax throat thumb thymus thyroid tibia tip tissue toe toes tongue tooth torso trace trachea tract tube tubes tubular
tumor ulcer ulna ulnar unremarkable upper ureter urethra uterus vagina valve valves varus vascular vein veins vena
venous ventral ventricle vertebra vessel vessels viral view views vocal volume volumes wall wedge wires wound wrist
zone signs sign abscess cardiac
""")

# Names that diseases, signs and devices carry; searched for like any name, except in such a term.
EPONYMS = words("""
achilles addison adson alzheimer arnold bachmann baker baastrup bankart barlow barrett barton basedow bartter bassini
bateman beck becker behcet bell bennett bentall berger billroth blalock blount bochdalek bohler boyd bosniak bowman
bright brodie broca broviac brown brunner buck budd buerger burch burkitt caldwell calve caroli castleman chagas
charcot chiari chilaiditi chopart clark cobb cockett codman colles collins conn cooley cooper cotton courvoisier crohn
cullen cushing dandy danis denver denonvilliers dercum dieulafoy dobhoff dobbhoff donovan douglas down dressler dubin
duchenne duke dupuytren ebstein edwards eisenmenger essex evans ewing fallot fanconi felty fleischner flack foley
fontan forestier fraley frankel freiberg friedreich galeazzi galen garden gardner gartland gaucher gerota ghon gilbert
gibson glasgow gleason glenn glisson golden goldberg gottron graves greenfield groshong gruentzig guillain gustilo
guyon haglund hampton hand harrington harris hashimoto hartmann heberden heimlich henoch herring hesselbach hickman
hill hirschsprung hoffa hoffmann hodgkin horner hounsfield howship hunt hunter huntington huber jackson jefferson
johnson jones judet kaposi kartagener kawasaki kehr keith kellgren kerley kienbock kikuchi killip klatskin klippel
kohler krukenberg lachman lambert lane langerhans lauge lawrence legg leriche letournel lewy lisfranc loffler ludwig
luschka luque maisonneuve mallory malone marfan mason mayo mcburney meckel meniere merkel meyer milwaukee mirizzi
mitchell moore monteggia monro morgagni morison morquio morton muller murphy mustard naclerio nash neer newton nissen
ollier osgood paget palmer pancoast parkinson parks paterson pauwels pearson pellegrini perthes peyer peyronie
pfannenstiel phelps phillips pickwick pott potter poupart pringle quinton ranke rathke raynaud reed reiter reynolds
richter riedel rigler robin rockwood rolando romberg ross roux rutherford sachs salter sanders schatzki scheuermann
schlatter schmorl scott segond seldinger sever sharp shatzker schatzker sheehan simmonds simon sipple sjogren smith
spigel spitz stanford starr steele stein steinmann stevens stewart still sudeck swan swyer sylvius takayasu taussig
tesio thomas tietze tillaux tossy treitz trendelenburg turner valsalva vater virchow volkmann wallenberg warthin
waters weber wegener wernicke wertheim westermark wharton whipple white williams wilms wilson winslow wolff wolf
wright young zenker zollinger
""")

EPONYM_NOUNS = words("""
abscess adenoma anastomosis anemia angle anomaly anastomose angulation arch aneurysm approach area arterie arteritis
artery arthroplasty artefact artifact bands band body bodies bruch bursa canal capsule carcinoma catheter cell cells
change changes classification class clamp complex contracture criteria crease criterium cyst deformity depression
disease diverticulum drain duct ducts dysplasia ependymoma esophagus fascia fenster fistula filter flap fold fracture
fractures fraktur fissure fundoplication ganglion gap gland grade graft granuloma granulomatosis hernia hernie hump
incision index instrumentation island knot krankheit law lesion lesions ligament line lines linien linie lymphoma
lymphom lymph maladie malformation maneuver manoeuvre method modulus morbus mouth muscle neoplasia neuroma node nodes
nodule nodules nose oesophagus palsy patch pin pins plaque plate plates position pouch procedure projection prosthesis
protocol raphe reaction repair ring rings rod rods sarcoma scale score sepsis sequence septum shelf shunt sign signs
space spots sphincter stage staging stenosis stent stripe suture syndrom syndrome system tendon test tetralogy
tetralogie thyroiditis triad triangle tube tubes tumor tumour type ulcer units unit valve valves vein view waterfield
zyste enfermedad sindrome ziekte syndroom signo fractura
""")

# tetralogy OF Fallot, pouch of Douglas, non-Hodgkin, Morbus Crohn
EPONYM_LINKS = words("""
tetralogy hernia foramen pouch duct ligament ligamentum ampulla node nodes circle angle fossa canal vein space fascia
fissure islets sphincter island triangle type line sign disease ring loop eminence layer morbus maladie syndrome
enfermedad ziekte tetralogie foro non post pro pseudo
""")

PARTICLES = words("""
van von vom zu zum zur der den de del della dela di da das do dos du des la le les lo los las ter ten te tot op het st
saint sainte ste sta san santa dos della al el ul bin ben ibn bint abu abd mc mac o d l y e af av och
""")

# Particles only where the patient's own name has them in front of another word, or as its prefix.
OWN_PARTICLES = PARTICLES | words("in aan bij uit onder over voor auf dem ver s i ni nic abdul ould unter ob tho mhic")

# In front of a name; PLAIN_HONORIFICS mean nothing else, so they count in any case of letters.
PLAIN_HONORIFICS = words("""
mrs mister miss prof professor doctor doktor herr herrn frau fraulein mme mlle madame monsieur mademoiselle sra srta
senor senora senorita dhr mevr mevrouw meneer juffrouw dra docteur signor signora
""")
HONORIFICS = PLAIN_HONORIFICS | words("mr ms dr sr hr fr mw m don dona nurse schwester sister sir madam dott")

NAME_KEYWORDS = words("""
name names named surname forename firstname lastname nachname vorname familienname geburtsname nom prenom apellido
apellidos nombre naam achternaam voornaam alias nee geb namen geburtsnamen madchenname madchennamen meisjesnaam
geboortenaam
""")

PERSON_VERBS = words("""
presents presented complains complained denies denied states stated underwent says said tolerated consented told
described describes admits reports requested refused klagt berichtet berichtete gibt presente rapporte nie refiere
niega acude meldt ontkent
""")

# What people are the subject of more often than things; after a capitalised everyday word only.
PERSON_AUXILIARIES = words("""
had konnte klagte hatte erhielt bekam wunscht mochte kam heeft kreeg kwam wil avait souhaite tenia desea wishes agreed
feels felt fell attended could
""")

PLACEHOLDERS = words("""
anon anonym anonymous anonymised anonymized anonyme anonimo deidentified dummy na nan nil none null patient patientin
unknown unbekannt undefined unnamed unidentified removed redacted baby infant neonate newborn boy girl twin male
female name no noname onbekend desconocido inconnu phantom
""")

SUFFIXES = words("jr sr ii iii iv md phd dr prof mr mrs ms mba do rn esq jun sen dipl ing med miss herr frau")

MONTH_NAMES = words("may april june august mai juni juin abril julio mars marz march mei jan jun julia augusto mar")

# After a title or "read by" these begin a sentence or a heading, not a name.
NO_NAMES = words("""
dr dra drs prof professor mr mrs ms miss med md phd mme mlle herr herrn frau hr fr sr sra dhr mevr mw pd priv univ
the this that there no not a an and or but findings finding impression patient patients exam examination chest history
indication comparison technique on at in by for to of is was were with from notified called informed discussed
radiology radiologist resident attending physician doctor nurse technologist phone telephone clinical final report
department emergency staff team service hospital clinic office practitioner date time page fax assistant manager
anonymous unknown deidentified redacted removed signed tuberculosis avium kansasii pneumoniae abscessus chelonae
fortuitum medical imaging surgery intensive care unit line und der die das den mit nach dem le la les el los de het
een van befund beurteilung klinik arzt station rontgen thorax kollege kollegin kollegen kolleginnen collega collegae
colega colegas confrere consoeur colleague colleagues circle rads comparado comparada comparacion nodulo nodulos
resultado resultados hallazgos conclusion informe tecnica comparaison resultat resultats nodule conclusie vergleich
ergebnis vergelijking
""")

