"""A story by which evaluator heads are found where no other prose is given."""

STORY = """
The ferry to the island leaves at seven in the morning, and the captain does not wait for anyone. Marta
had learned this in her first week, when she stood on the wet stones and watched the white stern grow
small. Since then she has kept her boots beside the door and her coat on the hook above them. The walk
from the house to the pier takes eleven minutes if the dog does not find a hedgehog. On the boat there is
a stove in the cabin, two benches, and a smell of tar and coffee that stays in the clothes until evening.
The old men from the upper village sit near the stove and talk about nets, prices, and the weather of
other years. None of them has ever asked what she does on the island, although all of them know. She
counts birds for the institute, and she repairs the instruments when the salt has eaten a cable. In
spring the cliffs are so full that a single stone falling into the water lifts a thousand wings. In
autumn there is only the wind, and the long list of numbers that has to be copied into a clean book. The
book must be written with a pencil, because ink runs when the roof leaks. Her predecessor left nine such
books, in a hand that leaned further to the left with every year. On the last page of the ninth he had
drawn a map of a cave that she has never found. She asked the captain about it once, and he looked at the
horizon for a while before he answered. A cave is only a hole until somebody hides something in it, he
said, and then he went forward to coil a rope. The teacher of the island school has eight pupils, and the
oldest of them already steers a boat better than most men. In winter, when the sea is too rough for the
ferry, lessons are held in the kitchen of the lighthouse. The children bring potatoes, which are put into
the ashes before arithmetic and taken out after geography. Nobody there has ever failed to remember the
capital of a country that was learned beside a hot potato. The lighthouse itself has had no keeper for
twenty years, since the lamp was given a clock and a cable. But the rooms are dry, the stairs are swept
on Saturdays, and a pot of white paint stands ready behind the door. When a stranger comes, he is first
shown the lamp, then the well, and then the bench from which two countries can be seen. Most strangers
stay for an hour, buy a jar of honey, and leave with the afternoon boat. One of them, a tall man with a
measuring tape, stayed for three weeks and spoke to nobody but the goats. He measured the harbour wall,
the church, the width of the path, and the height of every step down to the beach. Afterwards a letter
arrived from a ministry, in which the island was asked to pay for a bridge that did not exist. The mayor
answered that he would be glad to pay as soon as he could walk across it. For a year nothing more was
heard, and the letter hung in the bakery, where it slowly turned brown. Bread is baked on Tuesdays and
Fridays, and whoever comes too late has to eat the flat cakes of his neighbour. The baker is a silent
woman who knows from the sound of a step on the gravel which loaf will be wanted. She came from the
mainland with her grandmother's trough and a bag of seeds, and planted the first apple trees. They grow
behind a wall, bent towards the east, and their fruit is small and very sweet. On the feast of the patron
the whole village carries benches into that garden and eats until the lanterns go out. There is music
from an accordion that lacks two keys, so that every tune has the same two holes in it. Strangers think
that this is how the songs were written, and the children know them in no other way. Last summer a
violinist from the city brought the missing notes, and the dancers stumbled over them. Marta danced with
the teacher, with the captain, and with a geologist who explained the colour of the sand. It is red in
the north because of iron, black in the west because of an old volcano, and white where shells are
ground. At midnight the lamp of the lighthouse passed over the tables, and for a moment all faces looked
like silver coins. She walked home along the shore with her shoes in her hand and heard a seal breathing
close to the rocks. In the morning there were feathers on the roof of the hut and a new cable had been
cut. No fox lives on the island, and the marks on the copper did not look like teeth. She wrote it down,
repaired the damage with a clamp, and set a small mirror under the eaves. Two days later she saw in it a
raven that lifted a staple with great patience and laid it on the grass. He had arranged seven of them in
a row, beside a thimble, a bottle cap, and the key of a sardine tin. She did not disturb the collection,
but from then on she left him a bright nail every Sunday. The cable was never cut again, and in the book
of that month there is a note that science does not need. Rain came early that year and filled the
cistern before the end of September. The path above the quarry slid into the water, and with it the
little house in which the dynamite had been kept. Fortunately there had been no dynamite in it for a long
time, only skis, a sledge, and a broken pram. When the fog lifted, the men went out with hooks and
brought up one ski and a surprised octopus. The teacher used both for a lesson, and in the evening only
the ski was returned to its owner. Letters take four days to the city and five days back, for reasons
that the postman calls historical. He wears a cap with a badge of a kingdom that no longer exists, and
nobody has asked him to take it off. Whoever wants to be quick speaks into the radio of the harbour
office, where everyone can listen. That is why good news is shouted there and bad news is carried on
foot. When her sister's child was born, Marta heard it from the captain, the baker, and the goats, in
this order. She bought a bell for the cradle and a blanket from the widow at the mill, and packed them
into oiled paper. The parcel was lighter than the letter that she put beside it, because she could not
stop writing. She wrote about the raven, the octopus, the red sand, and the sound that the cliffs make
before a storm. It is a low note, lower than the accordion can play, and the dog hears it a full day
before she does. Then the boats are pulled up to the wall, the shutters are closed, and soup is cooked
for two days. The storm takes what it wants, usually a fence, sometimes a chimney, and once a whole
haystack with a sleeping cat on top. The cat was found on the mainland, well fed and offended, and came
home in a basket on the ferry at seven in the morning.
"""
"""Prose of 64 sentences about an island, written for this package."""
