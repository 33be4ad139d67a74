"""English sentences that identify nobody: measurements, levels, times, devices, eponyms, scores, harmless numbers."""

from __future__ import annotations

SENTENCES = """
The right kidney measures {cm} x {cm} x {cm} cm; the left kidney measures {cm} x {cm} cm.
There is a {mm} mm nodule in the right upper lobe (series 4, image {n3}).
Previously {mm} mm, the nodule now measures {mm} x {mm} mm (4/{n3}).
No focal consolidation, effusion or pneumothorax.
Mild degenerative disc disease at L4-L5 and L5-S1, worse at C5/6.
Small Baker cyst in the popliteal fossa, {mm} mm.
Findings are in keeping with a Morton neuroma of the third web space.
Biopsy-proven Hodgkin lymphoma, Deauville score 3.
Swan-Ganz catheter tip projects over the right main pulmonary artery.
Pericardial cyst versus Morgagni hernia.
Subtle Hill-Sachs deformity with a bony Bankart lesion.
Old Colles fracture with ulnar minus variance.
Schmorl nodes at several thoracic levels; Scheuermann-type wedging.
No Chiari malformation; the cisterna magna is normal.
Meckel's cave is unremarkable.
Findings suggest Crohn disease of the terminal ileum.
Perthes disease of the left hip, Catterall group II.
Kerley B lines at both bases.
Foley catheter in a decompressed bladder.
Dobhoff tube tip lies in the second part of the duodenum.
Port-A-Cath tip at the cavoatrial junction.
A 14 Fr pigtail drain and an 8.5 Fr nephrostomy are in place.
Double-J stent, 6 Fr x 26 cm.
BI-RADS 4a: suspicious, low likelihood of malignancy.
BI-RADS category 0; recall for magnification views.
PI-RADS 4 lesion in the left mid peripheral zone, {mm} mm, ADC {n3}.
Lung-RADS 2; continue annual screening.
LI-RADS LR-5 observation in segment 8.
TI-RADS 3, no biopsy by size criteria.
CAD-RADS 2/P1; Agatston score {n3}.
Kellgren-Lawrence grade 3 osteoarthritis.
ASPECTS 9 on the left.
Gleason 3+4=7 in 5/12 cores.
RECIST target sum {n3} mm, +12% from nadir.
Fleischner guidelines recommend CT at 6-12 months.
Contrast: {ml} mL iohexol 350 mgI/mL, injected at 4 mL/s.
{ml} ml of Omnipaque 300 given without reaction.
Gadobutrol 0.1 mmol/kg, {ml} mL flush of saline.
FDG dose {n3} MBq; uptake time 62 min; glucose 5.6 mmol/L.
CTDIvol 6.2 mGy, DLP {n3}.4 mGy*cm.
kVp 120, mAs {n3}, pitch 0.984, slice thickness 1.25 mm.
TR/TE {n3}0/102, FOV 240, matrix 384 x 256, b = 0, 500, 1000.
Air kerma 412 mGy, fluoroscopy time 12.4 minutes.
Mean attenuation {n3} HU on the portal venous phase.
SUVmax {cm}, liver background 2.1.
eGFR 58 mL/min/1.73 m2; creatinine 1.2 mg/dL.
Blood pressure 132/84, heart rate 76, SpO2 97%.
Ejection fraction 55-60%; LVEDV {n3} ml.
Peak systolic velocity {n3} cm/s, ICA/CCA ratio 1.8, stenosis <50% (NASCET).
Resistive index 0.68; portal vein velocity 18 cm/s hepatopetal.
Common bile duct measures 5 mm, gallbladder wall 2 mm, no Murphy sign.
The spleen is 11.4 cm in craniocaudal extent.
The aorta measures 3.4 cm, previously 3.2 cm.
Crown-rump length {mm} mm corresponding to 10w4d.
Fetal heart rate 152 bpm, BPD 48 mm (GA 20w3d), cervical length 36 mm.
Endometrium 4 mm; right ovary 2.1 x 1.8 x 1.4 cm.
The fracture line extends from 10 o'clock to 2 o'clock.
Breast mass at 10:30, 4 cm from the nipple.
Cobb angle 24 degrees from T5 to T11.
Alpha angle 62 degrees, Graf type Ia.
Leg length discrepancy of {mm} mm.
The 3rd, 4th and 5th metatarsals show healing fractures.
Salter-Harris II fracture of the distal radius.
Weber B fracture of the lateral malleolus, Lauge-Hansen SER 4.
Gustilo type II open tibial fracture.
Hounsfield units between -20 and +15 in keeping with a simple cyst, Bosniak I.
Sagittal T1, T2, STIR and axial T2 images were obtained.
Axial images were obtained from the lung apices to the symphysis.
Images 45-67 of series 301 are degraded by motion.
See key image 12/88 on series 6.
Key images: se 3 im 114, se 5 im 27.
Device model DR-7500, detector serial SN 44120-B, plate 3.
Protocol CT-HEAD-02, software VB20A, station CT02.
CPT 71260, ICD-10 R91.1.
Coverage from T12 to S2, 240 slices.
Catheter 5 Fr, wire 0.035 inch, balloon 8 x 40 mm at 10 atm.
Lead positions are unchanged; ICD generator in the left chest wall.
ET tube tip is 4.2 cm above the carina.
The right hand and wrist are normal; bone age is 10 years by Greulich and Pyle.
Long head of the biceps is intact; small joint effusion.
White matter hyperintensities, Fazekas 2.
The young adult pattern of red marrow persists.
Brown fat uptake in the supraclavicular regions.
Rose thorn ulcers are not seen.
Head of pancreas is normal; hand injection of contrast was uneventful.
Chest wall is intact; foot films show no fracture.
May represent atelectasis; cannot exclude early pneumonia.
Mark the skin entry before the patient is moved.
Will need correlation with tumour markers.
Grace period for follow-up is two months.
Discussed with the referring team at 15:40; read back was correct.
Telephone extension 4410 was called twice without an answer.
Follow-up ultrasound in 6 weeks is recommended.
Recommend follow-up in March or April, at the discretion of the clinic.
Appendectomy in 2009; hip replacement since 2016.
The patient was fasting for 6 h.
The patient denies allergies; weight 72 kg, height 1.68 m.
Patient's daughter was present during the examination.
Clinical history: 56-year-old woman with left breast pain.
A 71 y/o man with weight loss of 8 kg over 3 months.
Comparison: none available.
Comparison is made with the outside study from last year.
Technique: PA and lateral views of the chest.
Findings were communicated to the attending physician in person.
The bowel gas pattern is nonspecific; 3/5 power in the left leg was reported.
Stage IIIB by AJCC 8th edition, pT2 N1 M0.
HbA1c 7.1%, PSA 6.8 ng/mL, D-dimer 1200 ng/mL.
Protocol revision 1.2.840 was in use; table height 152.5 mm.
Ratio 1:1000 adrenaline was available in the room.
Ranson criteria 2; Balthazar grade C, CTSI 4.
Charcot arthropathy of the midfoot with Lisfranc malalignment.
Ewing sarcoma cannot be excluded; Codman triangle is present.
Paget disease of the left hemipelvis.
Pott puffy tumour is excluded.
Warthin tumour of the parotid, {mm} mm.
Budd-Chiari is unlikely: hepatic veins are patent.
Mirizzi configuration of the impacted stone.
Osgood-Schlatter changes at the tibial tubercle.
Dandy-Walker spectrum was considered.
Circle of Willis is complete; no berry aneurysm.
Sylvian fissure is symmetric; Virchow-Robin spaces are prominent.
Hashimoto thyroiditis, isthmus {mm} mm.
Monteggia lesion with Bado type I pattern.
Garden III femoral neck fracture.
Neer two-part fracture of the proximal humerus.
Stener lesion of the ulnar collateral ligament of the thumb.
Harrington rods from T4 to L1 are intact.
Greenfield filter below the renal veins.
Hickman line ends in the right atrium.
Blake drain removed; Jackson-Pratt drain output 40 ml/24 h.
Kocher incision scar.
""".strip().splitlines()
